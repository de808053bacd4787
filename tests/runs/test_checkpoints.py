"""Runs that continue from checkpoints which are damaged or forged, and weights that must not be saved."""

import json
import math
import shutil

import pytest
import torch
from short_runs import interrupted, trained

from selfkd.errors import (
    CheckpointError,
    NonFiniteLossError,
)
from selfkd.methods.dtskd import DTSKD
from selfkd.methods.plain import Plain
from selfkd.runs.evaluate import evaluate
from selfkd.runs.run_folder import RunFolder
from selfkd.runs.train import run
from selfkd.training.checkpoint_content import checksum
from selfkd.training.checkpoint_files import epochs_done, newest_checkpoint
from selfkd.training.checkpoint_names import checkpoint_folder
from selfkd.training.module import MethodModule


def test_a_damaged_checkpoint_is_replaced_by_the_one_before(short, tmp_path, caplog):
    unbroken = run(short(), tmp_path / "unbroken", show_progress=False)
    with interrupted(2):
        trained(short(), tmp_path)
    folder = RunFolder.of(short(), tmp_path / "runs")
    newest = checkpoint_folder(folder.checkpoints, 2) / "training.ckpt"
    newest.write_bytes(newest.read_bytes()[:5000])
    caplog.set_level("INFO", "selfkd")
    trained(short(), tmp_path)
    assert "training.ckpt is damaged; going back to the checkpoint after epoch 1" in caplog.text
    assert "continues after epoch 1 of 4" in caplog.text
    assert folder.network_file.read_bytes() == unbroken.network_file.read_bytes()
    assert folder.scores()["last"] == unbroken.scores()["last"]


def check_it_continues(recipe, tmp_path, done):
    """A run kept its checkpoint after `done` epochs, and continues from it."""
    (checkpoints,) = (tmp_path / "runs").rglob("checkpoints")
    assert epochs_done(checkpoints) == done
    assert trained(recipe, tmp_path).scores()["last"]["epoch"] == 4


def crafted(folder, change):
    """Change what the newest checkpoint holds, with checksums that are valid."""
    newest = newest_checkpoint(folder.checkpoints)
    content = torch.load(newest / "training.ckpt", weights_only=True)
    change(content)
    torch.save(content, newest / "training.ckpt")
    sums = json.loads((newest / "checksums.json").read_text())
    (newest / "checksums.json").write_text(json.dumps({**sums, "training.ckpt": checksum(newest / "training.ckpt")}))
    return newest


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optimizer_states", None),
        ("optimizer_states", [1]),
        ("lr_schedulers", ["x"]),
        ("loops", {}),
        ("selfkd_best", "x"),
        ("selfkd_processes", {}),
        ("selfkd_steps_per_epoch", "x"),
        ("selfkd_threads", 10**9),
        ("callbacks", "x"),
    ],
)
def test_a_checkpoint_that_cannot_be_continued_is_replaced_by_the_one_before(
    unfinished, finished, tmp_path, caplog, key, value
):
    crafted(unfinished, lambda content: content.pop(key) if value is None else content.update({key: value}))
    trained(unfinished.recipe(), tmp_path)
    assert f"training.ckpt holds no usable {key}: it is damaged, or another version of selfkd wrote it" in caplog.text
    assert "going back to the checkpoint after epoch 1" in caplog.text
    assert unfinished.network_file.read_bytes() == finished.network_file.read_bytes()
    assert unfinished.scores()["last"] == finished.scores()["last"]


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["optimizer_states"][0].pop("param_groups"),
        lambda content: content["optimizer_states"][0].update(param_groups=3),
        lambda content: content["loops"].update(fit_loop=None),
        lambda content: content["state_dict"].update({next(iter(content["state_dict"])): [1.5]}),
    ],
    ids=range(4),
)
def test_a_forged_checkpoint_ends_in_a_checkpoint_error(unfinished, tmp_path, change):
    newest = crafted(unfinished, change)
    with pytest.raises(
        CheckpointError, match=f"{newest.name} does not fit this run|the checkpoint does not fit this run"
    ):
        trained(unfinished.recipe(), tmp_path)


@pytest.mark.parametrize(
    ("error", "said"),
    [(AssertionError(), "(AssertionError)"), (KeyError("loops"), "(KeyError: 'loops')")],
    ids=["says nothing", "says a key"],
)
def test_the_error_says_why_a_checkpoint_does_not_fit(unfinished, tmp_path, monkeypatch, error, said):
    def unfit(module, content):
        raise error

    monkeypatch.setattr(MethodModule, "on_load_checkpoint", unfit)
    with pytest.raises(CheckpointError) as raised:
        trained(unfinished.recipe(), tmp_path)
    assert str(raised.value).endswith(f"does not fit this run {said}")


def test_a_forged_history_ends_in_a_checkpoint_error(unfinished, tmp_path):
    newest = newest_checkpoint(unfinished.checkpoints)
    (newest / "history.pt").unlink()
    torch.save({"probabilities": 3}, newest / "history.pt")
    sums = json.loads((newest / "checksums.json").read_text())
    (newest / "checksums.json").write_text(json.dumps({**sums, "history.pt": checksum(newest / "history.pt")}))
    with pytest.raises(CheckpointError, match="does not fit this run"):
        trained(unfinished.recipe(), tmp_path)


def test_without_an_undamaged_checkpoint_the_error_advises_to_overwrite(short, tmp_path):
    recipe = short()
    with interrupted(2):
        trained(recipe, tmp_path)
    folder = RunFolder.of(recipe, tmp_path / "runs")
    for file in folder.checkpoints.rglob("training.ckpt"):
        file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="training.ckpt is damaged; no whole checkpoint is left.*--overwrite"):
        trained(recipe, tmp_path)
    assert trained(recipe, tmp_path, overwrite=True).scores_file.exists()


def test_a_checkpoint_of_another_method_is_refused(short, tmp_path):
    plain, dtskd = (trained(short(method), tmp_path) for method in ("plain", "dtskd"))
    shutil.rmtree(dtskd.checkpoints)
    shutil.copytree(plain.checkpoints, dtskd.checkpoints)
    dtskd.scores_file.unlink()
    with pytest.raises(CheckpointError, match="does not fit"):
        trained(short(), tmp_path)


def test_weights_that_are_nan_have_no_scores(finished, tmp_path):
    crafted(finished, lambda content: content["state_dict"]["method.backbone.network.fc.bias"].fill_(math.nan))
    said = r"logits of main are NaN or infinite: the weights in .*epoch-000003.training.ckpt are damaged"
    with pytest.raises(CheckpointError, match=said):
        evaluate(finished.path)
    finished.scores_file.unlink()
    with pytest.raises(CheckpointError, match=said):
        trained(finished.recipe(), tmp_path)
    assert not finished.is_finished


def test_a_loss_that_is_nan_stops_the_run_and_keeps_the_last_good_checkpoint(short, tmp_path, monkeypatch):
    forward = DTSKD.forward

    def poisoned(self, batch, progress):
        output = forward(self, batch, progress)
        if progress.epoch == 2 and progress.step == 3:
            output.terms["structural"].mul_(math.nan)
        return output

    monkeypatch.setattr(DTSKD, "forward", poisoned)
    recipe = short()
    with pytest.raises(NonFiniteLossError, match="structural became NaN or infinite in epoch 3, steps 1 to 5"):
        trained(recipe, tmp_path)
    monkeypatch.undo()
    check_it_continues(recipe, tmp_path, 2)


def test_weights_that_are_nan_are_never_saved(short, tmp_path, monkeypatch):
    def spoil(self, batch, output):
        if self.epochs_done == 1:
            self.backbone.network.fc.bias.data.fill_(math.nan)

    recipe = short("plain", **{"loader.batch_size": 100})  # one step an epoch
    monkeypatch.setattr(Plain, "after_step", spoil)
    with pytest.raises(NonFiniteLossError, match="weights became NaN or infinite at the end of epoch 2"):
        trained(recipe, tmp_path)
    monkeypatch.undo()
    check_it_continues(recipe, tmp_path, 1)


def test_statistics_that_are_nan_are_never_saved(short, tmp_path, monkeypatch):
    def spoil(self, batch, output):
        if self.epochs_done == 1:
            next(buffer for name, buffer in self.named_buffers() if name.endswith("running_mean")).fill_(math.nan)

    monkeypatch.setattr(Plain, "after_step", spoil)
    with pytest.raises(NonFiniteLossError, match="^logits of main are NaN .* in the evaluation after epoch 2;"):
        trained(short("plain"), tmp_path)
    (checkpoints,) = (tmp_path / "runs").rglob("checkpoints")
    assert epochs_done(checkpoints) == 1
