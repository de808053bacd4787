"""Training on a Dataset object, which no file holds."""

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from short_runs import SHORT, interrupted, trained
from torch.utils.data import Dataset

from image_sets import digit, positions_of
from real_runs import differences, outcome
from selfkd.api import load
from selfkd.errors import DataError, RecipeError, RunError
from selfkd.recipes.reader import resolve
from selfkd.runs.evaluate import evaluate
from selfkd.runs.export import export_run
from selfkd.runs.run_folder import RunFolder
from selfkd.runs.several import train_several
from selfkd.training.checkpoint_files import epochs_done


class Digits(Dataset):
    """Real digits of three classes."""

    classes = ("zero", "one", "two")

    def __init__(self, start=0):
        positions = [(position, label) for label in range(3) for position in positions_of(label, start + 12)[start:]]
        self.samples = [(digit(position, side=16), label) for position, label in positions]

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


@pytest.fixture(scope="module")
def digits():
    return Digits()


def recipe_on(dataset, **overrides):
    options = {"data": "dataset", "data.image_size": 16, "name": "own", "loader.workers": 0, **SHORT, **overrides}
    recipe = resolve("demo/digits/resnet18/dtskd", options)
    return recipe if dataset is None else replace(recipe, given={"data": dataset})


@pytest.fixture(scope="module")
def unbroken(digits, tmp_path_factory):
    return trained(recipe_on(digits), tmp_path_factory.mktemp("unbroken"))


@pytest.mark.parametrize("augmentation", ["crop_flip", "random_resized_crop"])
def test_an_interrupted_run_continues_with_the_object_as_if_it_never_was(digits, unbroken, tmp_path, augmentation):
    changes = {} if augmentation == "crop_flip" else {"augmentation": augmentation, "augmentation.size": 16}
    recipe = recipe_on(digits, **changes)
    if changes:
        unbroken = trained(recipe, tmp_path / "other")
    with interrupted(2):
        trained(recipe, tmp_path)
    with pytest.raises(DataError, match="data=dataset needs the Dataset object, .* pass it again"):
        trained(recipe_on(None, **changes), tmp_path)
    with pytest.raises(RunError, match="was trained on other data than data=dataset gives now"):
        trained(recipe_on(Digits(start=1), **changes), tmp_path)
    assert differences(outcome(unbroken), outcome(trained(recipe_on(Digits(), **changes), tmp_path))) == []


_KILLS_ITSELF = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from short_runs import trained
from selfkd.methods.base import Method
from test_dataset_objects import Digits, recipe_on

begin = Method.begin_epoch

def kill_in_epoch_2(self, progress):
    if progress.epoch == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    begin(self, progress)

Method.begin_epoch = kill_in_epoch_2
trained(recipe_on(Digits()), Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_a_killed_run_continues_with_the_object_as_if_it_never_was(digits, unbroken, tmp_path):
    here = Path(__file__).parent
    command = [sys.executable, "-c", _KILLS_ITSELF, str(tmp_path), str(here), str(here.parent)]
    killed = subprocess.run(command, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    folder = RunFolder.of(recipe_on(digits), tmp_path / "runs")
    assert epochs_done(folder.checkpoints) == 2
    assert differences(outcome(unbroken), outcome(trained(recipe_on(digits), tmp_path))) == []


def test_a_finished_run_is_checked_with_the_object_and_used_without_it(digits, unbroken, tmp_path):
    runs = unbroken.path.parent.parent.parent
    assert trained(recipe_on(digits), runs).path == unbroken.path
    assert trained(recipe_on(None), runs).path == unbroken.path
    with pytest.raises(RunError, match="other data"):
        trained(recipe_on(Digits(start=1)), runs)
    without = {"data": "folder", "data.image_size": 16, "name": "own", "loader.workers": 0, **SHORT}
    with pytest.raises(RunError, match=r"trained on a Dataset object .*pass the object again: .*data=DATASET\)"):
        trained(resolve("demo/digits/resnet18/dtskd", without), runs)
    run = load(unbroken.path)
    assert run.class_names == ("zero", "one", "two")
    assert run.transform(Image.new("RGB", (20, 30))).shape == run.input_size == (3, 16, 16)
    assert export_run(unbroken.path, "last", tmp_path / "network.safetensors")[0].exists()
    assert "given" not in unbroken.recipe_file.read_text()


def test_a_split_is_evaluated_with_the_object_and_the_object_as_other_images(digits, unbroken):
    with pytest.raises(DataError, match="data=dataset needs the Dataset object"):
        evaluate(unbroken.path)
    evaluation = evaluate(unbroken.path, given={"data": digits})
    assert (evaluation.split, evaluation.images) == ("test", 8)
    scores = unbroken.scores()["last"]["scores"]["test"]
    assert evaluation.scores["main"]["top1"]["value"] == scores["main"]["top1"]["value"]
    assert evaluate(unbroken.path, data=digits).images == 36


def test_a_teacher_learns_from_the_same_object(digits, tmp_path):
    teacher = {"teacher": "recipe", "teacher.recipe": "demo/digits/resnet18/plain", "teacher.trainer.epochs": 1}
    recipe = recipe_on(digits, method="kd", **teacher, **{"trainer.epochs": 1})
    assert trained(recipe, tmp_path).is_finished


def test_other_processes_do_not_get_the_object(digits, tmp_path):
    message = "a Dataset object is in the memory of this process alone, but .*data=package.module:Class"
    with pytest.raises(RecipeError, match=message):
        trained(recipe_on(digits, **{"trainer.devices": 2, "trainer.accelerator": "cpu"}), tmp_path)
    with pytest.raises(RecipeError, match=message):
        train_several([recipe_on(digits)], tmp_path)
    assert not any(tmp_path.iterdir())
