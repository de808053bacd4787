import pytest
from torch import nn

from selfkd.recipes.recipe import Recipe
from selfkd.runs.networks import build_network


def recipe(factory="network", **options):
    """A recipe of a network of this file."""
    return Recipe("mine", 0, {"backbone": f"{__name__}:{factory}"}, {"backbone": options})


def network(num_classes, *, weights=None, act="nn.relu", pretrained=False, config="small"):
    """A network that remembers what it was given."""
    built = nn.Linear(1, num_classes)
    built.given = {"weights": weights, "act": act, "pretrained": pretrained, "config": config}
    return built


def required(num_classes, weights):
    """The same, which must be told its weights."""
    return network(num_classes, weights=weights)


@pytest.mark.parametrize(
    ("options", "built"),
    [
        ({"weights": "start.pth"}, {}),
        ({"weights": "gone/start"}, {}),
        ({"weights": "~nobody-of-that-name/start.pt"}, {}),
        ({"pretrained": True}, {}),
        ({"act": "torch.nn.ReLU"}, {"act": "torch.nn.ReLU"}),  # a name, not a file
        ({"config": "large"}, {"config": "large"}),
    ],
)
def test_weights_that_are_gone_are_left_out_where_others_follow(options, built, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    defaults = network(3).given
    assert build_network(recipe(**options), 3, pretrained=False).given == {**defaults, **built}
    assert build_network(recipe(**options), 3, pretrained=True).given == {**defaults, **options}


def test_weights_that_are_there_are_read_as_before(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "start.pth").touch()
    assert build_network(recipe(weights="start.pth"), 3, pretrained=False).given["weights"] == "start.pth"


def test_a_file_that_must_be_named_is_asked_for(tmp_path):
    gone = str(tmp_path / "start.pth")
    assert build_network(recipe("required", weights=gone), 3, pretrained=False).given["weights"] == gone
