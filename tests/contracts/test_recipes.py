"""Every recipe trains two epochs at a size that takes seconds."""

import pytest

from selfkd.recipes.files import recipe_names
from selfkd.recipes.reader import resolve
from selfkd.runs.experiment import run

SMALL = {"backbone.width": 8, "trainer.epochs": 2, "loader.batch_size": 20}


@pytest.mark.parametrize("name", recipe_names())
def test_it_trains(name, tmp_path, digits_as_cifar100):
    recipe = resolve(name)
    overrides = dict(SMALL)
    if recipe.parts["data"] == "cifar100":
        overrides["data.root"] = str(digits_as_cifar100)
    folder = run(resolve(name, overrides), tmp_path / "runs", show_progress=False)
    scores = folder.scores()
    assert scores["last"]["epoch"] == 2
    assert 0 <= scores["last"]["scores"]["test"]["main"]["top1"]["value"] <= 100
    assert folder.network_file.exists()
