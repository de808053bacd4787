"""Every recipe trains two steps at a size that takes seconds; slow but for one of each family."""

import pytest

import seats
from selfkd.backbones import BACKBONES
from selfkd.recipes.files import recipe_names
from selfkd.recipes.reader import resolve
from selfkd.recipes.teacher_recipes import teachers_first
from selfkd.runs.train import run
from selfkd.training.checkpoint_content import read_checkpoint
from selfkd.training.checkpoint_files import newest_checkpoint


def family(name):
    """Protocol, data set and method, of which ablations and backbones are variants."""
    protocol, data, _, method = name.split("/")
    return protocol, data, method.partition("-")[0]


def on_resnet18(name):
    """Whether it is the method itself on the smallest residual network."""
    return name.split("/")[2:] == ["resnet18", family(name)[2]]


IN_MAKE_TEST = {name for name in recipe_names() if on_resnet18(name)}
CASES = [pytest.param(name, marks=() if name in IN_MAKE_TEST else pytest.mark.slow) for name in recipe_names()]


# Small images and few of them, of the kind that the data set's layout is read from. At its learning rate, which is for
# batches of 256, VGG-16 without batch normalisation diverges in batches of 10.
SMALL = {
    "digits": {},
    "cifar100": {"loader.batch_size": 30},
    "tiny_imagenet": {"loader.batch_size": 10},
    "imagenet": {
        "data.image_size": 64,
        "data.resize": 72,
        "augmentation.size": 64,
        "loader.batch_size": 10,
        "optimizer.lr": 0.004,
    },
    # The photographs that conftest.py cuts are few. Weights are not downloaded.
    "folder": {
        "data.image_size": 64,
        "data.validation_fraction": 0.2,
        "loader.batch_size": 10,
        "backbone.pretrained": "false",
        "schedule.warmup_epochs": 0,
    },
}


LAYOUT = {"cifar100": "digits_as_cifar100"}


@pytest.mark.parametrize("name", CASES)
def test_it_trains(name, tmp_path, request):
    recipe = resolve(name)
    data, backbone = recipe.parts["data"], recipe.parts["backbone"]
    overrides = {"trainer.epochs": 1, "loader.workers": 0, **SMALL[data]}
    if backbone in BACKBONES:
        overrides["backbone.width"] = seats.small_width(backbone)
    if backbone.startswith("vit_"):
        overrides["backbone.img_size"] = SMALL[data]["data.image_size"]
    for teacher in teachers_first(recipe):
        overrides["teacher.backbone.width"] = seats.small_width(teacher.parts["backbone"])
    if data != "digits":
        overrides["data.root"] = str(request.getfixturevalue(LAYOUT.get(data, "digits_as_imagenet")))
    folder = run(resolve(name, overrides), tmp_path / "runs", show_progress=False)
    scores = folder.scores()
    assert scores["last"]["epoch"] == 1
    heads = scores["last"]["scores"]["test"]
    assert 0 <= heads["main"]["top1"]["value"] <= 100
    assert set(recipe.published.get("other_heads", {})) <= set(heads), "every published head is measured"
    assert folder.network_file.exists()
    (optimizer,) = read_checkpoint(newest_checkpoint(folder.checkpoints))["optimizer_states"]
    parameters = {number for group in optimizer["param_groups"] for number in group["params"]}
    assert set(optimizer["state"]) == parameters, "several processes wait in every step for every gradient"
