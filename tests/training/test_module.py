"""What the module asks of a method in a run."""

import dataclasses

import pytest
import torch

from selfkd.data.loading.batches import TrainingBatches
from selfkd.errors import BatchError, RunInterruptedError
from selfkd.memories import History
from selfkd.methods.base import Method
from selfkd.recipes.reader import resolve
from selfkd.runs.build import Experiment
from selfkd.runs.run_folder import RunFolder
from selfkd.runs.train import run
from selfkd.training.checkpoint_files import epochs_done
from selfkd.training.module import MethodModule


def test_a_wrong_label_on_the_device_ends_a_run_at_the_next_look(tmp_path, monkeypatch):
    """In the fifth of ten batches; looks are after every third."""
    steps, batches = [], TrainingBatches.batches

    def spoilt(loader, epoch):
        for step, batch in enumerate(batches(loader, epoch), start=1):
            steps.append(step)
            wrong = epoch == 1 and step == 5
            yield dataclasses.replace(batch, labels=torch.full_like(batch.labels, -100)) if wrong else batch

    monkeypatch.setattr("selfkd.methods.batch_checks.readable_now", lambda values: False)
    monkeypatch.setattr(TrainingBatches, "batches", spoilt)
    options = {"backbone.width": 4, "data.train_per_class": 5, "loader.batch_size": 5, "trainer.epochs": 2}
    recipe = resolve("demo/digits/resnet18/plain", {**options, "trainer.guard_every": 3, "name": "spoilt"})
    with pytest.raises(BatchError, match=r"label -100 in batch 5 of the epoch lies outside \[0, 10\)"):
        run(recipe, tmp_path, show_progress=False)
    assert max(steps[10:]) < 8, "Lightning reads one batch ahead"
    assert epochs_done(RunFolder.of(recipe, tmp_path).checkpoints) == 1


def test_what_might_fit_is_said_once_however_many_histories_there_are():
    experiment = Experiment.build(resolve("demo/digits/resnet18/dtskd", {"backbone.width": 4}))
    experiment.method.memories["second"] = History(10, 10, ("main",))
    options = experiment.recipe.build("trainer")
    module = MethodModule(experiment.method, experiment.training_parts(), options)
    said = module.too_little_memory(torch.device("cuda:0"))
    assert "; it might continue with loader.device_share=0 or history.storage=pinned;" in said


def test_a_continued_run_knows_how_many_epochs_were_done(tmp_path, monkeypatch):
    """Also where nothing was remembered in them, which a method may have decided."""
    begun, begin = [], Method.begin_epoch

    def stopping(method, progress):
        begun.append((progress.epoch, method.epochs_done))
        if len(begun) == 3:
            raise KeyboardInterrupt
        begin(method, progress)

    monkeypatch.setattr(Method, "begin_epoch", stopping)
    options = {"backbone.width": 4, "data.train_per_class": 2, "trainer.epochs": 4, "name": "continued"}
    recipe = resolve("demo/digits/resnet18/plain", options)
    with pytest.raises(RunInterruptedError):
        run(recipe, tmp_path, show_progress=False)
    run(recipe, tmp_path, show_progress=False)
    assert begun == [(0, 0), (1, 1), (2, 2), (2, 2), (3, 3)]
