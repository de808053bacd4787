"""Short runs of the embedded default."""

import shutil

import pytest

from selfkd.errors import RunInterruptedError
from selfkd.methods.base import Method
from selfkd.methods.dtskd import DTSKD
from selfkd.recipes.reader import resolve
from selfkd.runs.run_folder import RunFolder
from selfkd.runs.train import run

SHORT = {"backbone.width": 8, "trainer.epochs": 4, "trainer.evaluate_every": 1}


@pytest.fixture
def short():
    """`short("dtskd", **overrides)`: a resolved recipe that trains in a second."""

    def make(demo="dtskd", **overrides):
        return resolve(f"demo/digits/resnet18/{demo}", {**SHORT, **overrides})

    return make


@pytest.fixture(scope="session")
def _runs(tmp_path_factory):
    """Two runs of one recipe: `finished`, and `unfinished` after two epochs of three."""
    runs = tmp_path_factory.mktemp("runs")

    def stop(self, progress):
        if progress.epoch == 2:
            raise KeyboardInterrupt
        Method.begin_epoch(self, progress)

    recipe = {**SHORT, "backbone.width": 4, "trainer.epochs": 3}
    run(resolve("demo/digits/resnet18/dtskd", {**recipe, "name": "finished"}), runs, show_progress=False)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(DTSKD, "begin_epoch", stop)
        with pytest.raises(RunInterruptedError):
            run(resolve("demo/digits/resnet18/dtskd", {**recipe, "name": "unfinished"}), runs, show_progress=False)
    return runs


def _copy(runs, name, tmp_path):
    return RunFolder(shutil.copytree(runs / name / "seed-0", tmp_path / "runs" / name / "seed-0"))


@pytest.fixture
def finished(_runs, tmp_path):
    """A finished run of three epochs, to be spoiled."""
    return _copy(_runs, "finished", tmp_path)


@pytest.fixture
def unfinished(_runs, tmp_path):
    """A run that stopped after two epochs of three, to be spoiled."""
    return _copy(_runs, "unfinished", tmp_path)
