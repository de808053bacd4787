import shutil

import pytest
from short_runs import SHORT, interrupted, trained

from image_sets import write_folder
from selfkd.recipes.reader import resolve
from selfkd.runs.run_folder import RunFolder


@pytest.fixture
def short():
    """`short("dtskd", **overrides)`: a resolved recipe that trains in a second."""

    def make(demo="dtskd", **overrides):
        return resolve(f"demo/digits/resnet18/{demo}", {**SHORT, **overrides})

    return make


@pytest.fixture
def photographed(short, tmp_path):
    """`photographed(root)`: a recipe that learns three digits from image files, which lie in `tmp_path / "three"`."""

    def make(root, **overrides):
        options = {"data": "folder", "data.image_size": 16, "trainer.epochs": 1, "name": "photographed"}
        return short("plain", **options, **{"data.root": str(root), **overrides})

    for split, count, start in (("train", 6, 0), ("test", 2, 6)):
        write_folder(tmp_path / "three" / split, count, digits=range(3), start=start)
    return make


@pytest.fixture(scope="session")
def _runs(tmp_path_factory):
    """Two runs of one recipe: `finished`, and `unfinished` after two epochs of three."""
    folder = tmp_path_factory.mktemp("session")
    recipe = {**SHORT, "backbone.width": 4, "trainer.epochs": 3}
    trained(resolve("demo/digits/resnet18/dtskd", {**recipe, "name": "finished"}), folder)
    with interrupted(2):
        trained(resolve("demo/digits/resnet18/dtskd", {**recipe, "name": "unfinished"}), folder)
    return folder / "runs"


def _copy(runs, name, tmp_path):
    return RunFolder(shutil.copytree(runs / name / "seed-0", tmp_path / "runs" / name / "seed-0"))


@pytest.fixture
def finished(_runs, tmp_path):
    """A copy of a finished run of three epochs, which a test may damage."""
    return _copy(_runs, "finished", tmp_path)


@pytest.fixture
def unfinished(_runs, tmp_path):
    """A copy of a run that was interrupted after two epochs of three, which a test may damage."""
    return _copy(_runs, "unfinished", tmp_path)
