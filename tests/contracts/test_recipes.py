"""Every recipe trains two steps at a size that takes seconds; all but one of each family are slow."""

import pytest

from selfkd.backbones import BACKBONES
from selfkd.recipes.files import recipe_names
from selfkd.recipes.reader import resolve
from selfkd.runs.experiment import run

WIDTHS = {"shufflenetv1_cifar": 6}  # a multiple of its groups; 8 for all others


def family(name):
    """Protocol, data set and method, of which ablations and backbones are variants."""
    protocol, data, _, method = name.split("/")
    return protocol, data, method.partition("-")[0]


FIRST_OF_FAMILY = {family(name): name for name in reversed(recipe_names())}
CASES = [
    pytest.param(name, marks=() if FIRST_OF_FAMILY[family(name)] == name else pytest.mark.slow)
    for name in recipe_names()
]


@pytest.mark.parametrize("name", CASES)
def test_it_trains(name, tmp_path, digits_as_cifar100):
    recipe = resolve(name)
    overrides = {"trainer.epochs": 1, "loader.batch_size": 30}
    if recipe.parts["backbone"] in BACKBONES:
        overrides["backbone.width"] = WIDTHS.get(recipe.parts["backbone"], 8)
    if recipe.parts["data"] == "cifar100":
        overrides["data.root"] = str(digits_as_cifar100)
    folder = run(resolve(name, overrides), tmp_path / "runs", show_progress=False)
    scores = folder.scores()
    assert scores["last"]["epoch"] == 1
    heads = scores["last"]["scores"]["test"]
    assert 0 <= heads["main"]["top1"]["value"] <= 100
    assert set(recipe.published.get("other_heads", {})) <= set(heads), "every published head is measured"
    assert folder.network_file.exists()
