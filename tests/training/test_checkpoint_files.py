import json
import subprocess
import sys

import pytest
import torch

from selfkd.errors import CheckpointError, StorageError
from selfkd.training import checkpoint_files
from selfkd.training.checkpoint_files import (
    HISTORY_KEY,
    CheckpointFiles,
    epochs_done,
    newest_set,
    read_set,
    read_weights,
    restore_best,
    set_folder,
    weights_file,
    write_best,
)

FILES = ["training.ckpt", "history.pt", "best.ckpt", "checksums.json"]


def weights(value):
    return {"method.w": torch.full((300,), float(value)), "method.backbone.v": torch.ones(1)}


def save(checkpoints, done, history=True):
    """A set after `done` epochs; its best epoch is the first."""
    if done == 1:
        write_best(checkpoints, 0, weights(-1))
    checkpoint = {"epoch": done - 1, "state_dict": weights(done)}
    if history:
        checkpoint[HISTORY_KEY] = {"p": torch.ones(done)}
    CheckpointFiles().save_checkpoint(checkpoint, set_folder(checkpoints, done))


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def flip_a_bit(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_a_set_holds_all_that_belongs_together_and_the_one_before_stays(tmp_path):
    for done in (1, 2, 3):
        save(tmp_path, done)
    assert names(tmp_path) == ["best.ckpt", "epoch-000002", "epoch-000003"]
    for done in (2, 3):
        folder = set_folder(tmp_path, done)
        assert names(folder) == sorted(FILES)
        loaded = read_set(folder)
        assert loaded["epoch"] == done - 1
        assert len(loaded[HISTORY_KEY]["p"]) == done
        assert read_weights(folder / "best.ckpt")[1] == 1
    assert newest_set(tmp_path) == set_folder(tmp_path, 3)
    assert epochs_done(tmp_path) == 3
    assert (tmp_path / "best.ckpt").samefile(set_folder(tmp_path, 2) / "best.ckpt"), "linked, not written again"


def test_what_a_killed_process_left_half_written_is_no_set(tmp_path):
    save(tmp_path, 1)
    partial = tmp_path / "epoch-000002.partial"
    partial.mkdir()
    (partial / "training.ckpt").write_bytes(b"half")
    broken_off = tmp_path / "epoch-000000"  # its removal was broken off
    broken_off.mkdir()
    (broken_off / "training.ckpt").write_bytes(b"half")
    assert newest_set(tmp_path) == set_folder(tmp_path, 1)
    save(tmp_path, 2)
    assert names(tmp_path) == ["best.ckpt", "epoch-000001", "epoch-000002"], "cleared away"
    assert read_set(set_folder(tmp_path, 2))["epoch"] == 1


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [flip_a_bit, lambda file: file.write_bytes(file.read_bytes()[:60])])
def test_a_damaged_set_is_passed_over_with_a_warning(tmp_path, caplog, name, damage):
    for done in (1, 2):
        save(tmp_path, done)
    file = set_folder(tmp_path, 2) / name
    content = file.read_bytes()
    file.unlink()  # else the other set's best epoch is damaged with it
    file.write_bytes(content)
    damage(file)
    assert newest_set(tmp_path) == set_folder(tmp_path, 1)
    assert epochs_done(tmp_path) == 1
    assert "going back to the checkpoint after epoch 1" in caplog.text
    assert "epoch-000002" in caplog.text
    save(tmp_path, 2)
    assert newest_set(tmp_path) == set_folder(tmp_path, 2)


def test_a_missing_file_is_damage_and_the_only_set_is_not_passed_over(tmp_path):
    save(tmp_path, 1)
    (set_folder(tmp_path, 1) / "history.pt").unlink()
    with pytest.raises(CheckpointError, match=r"history.pt is missing; no whole checkpoint is left; .*--overwrite"):
        newest_set(tmp_path)
    with pytest.raises(CheckpointError, match=r"history.pt is missing"):
        CheckpointFiles().load_checkpoint(set_folder(tmp_path, 1))


def test_going_back_leaves_nothing_from_beyond(tmp_path):
    for done in (1, 5):
        save(tmp_path, done)
    save(tmp_path, 3)  # after epoch 5 was found damaged
    assert names(tmp_path) == ["best.ckpt", "epoch-000001", "epoch-000003"]


def test_the_best_epoch_is_that_of_the_set_from_which_a_run_continues(tmp_path):
    save(tmp_path, 1)
    write_best(tmp_path, 2, weights(7))  # of an epoch that was never saved whole
    restore_best(tmp_path, newest_set(tmp_path))
    assert read_weights(tmp_path / "best.ckpt")[1] == 1
    write_best(tmp_path, 2, weights(7))
    assert read_weights(set_folder(tmp_path, 1) / "best.ckpt")[1] == 1, "a set never changes"
    restore_best(tmp_path, None)
    assert not (tmp_path / "best.ckpt").exists()


def test_a_best_epoch_that_is_only_half_written_spoils_no_set(tmp_path, monkeypatch):
    for done in (1, 2):
        save(tmp_path, done)
    restore_best(tmp_path, newest_set(tmp_path))  # a run that continues: all are names of one file
    assert names(tmp_path) == ["best.ckpt", "epoch-000001", "epoch-000002"]

    def killed(content, file):
        file.write(b"half")
        file.flush()
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        write_best(tmp_path, 2, weights(7))
    monkeypatch.undo()
    assert newest_set(tmp_path) == set_folder(tmp_path, 2)
    assert read_weights(tmp_path / "best.ckpt")[1] == 1
    write_best(tmp_path, 2, weights(7))
    assert names(tmp_path) == ["best.ckpt", "epoch-000001", "epoch-000002"]
    assert read_weights(tmp_path / "best.ckpt")[1] == 3
    for done in (1, 2):
        assert read_weights(set_folder(tmp_path, done) / "best.ckpt")[1] == 1


def test_where_files_cannot_be_linked_they_are_copied(tmp_path, monkeypatch):
    def refused(self, target):
        raise OSError("no links here")

    monkeypatch.setattr(checkpoint_files.Path, "hardlink_to", refused)
    save(tmp_path, 1)
    restore_best(tmp_path, newest_set(tmp_path))
    assert read_weights(tmp_path / "best.ckpt")[1] == 1


def test_weights_of_a_part_come_under_its_own_keys(tmp_path):
    save(tmp_path, 1)
    for which, value in (("last", 1), ("best", -1)):
        read, epoch = read_weights(weights_file(tmp_path, which))
        assert epoch == 1
        assert read["w"][0] == value
    assert set(read_weights(weights_file(tmp_path, "last"), "backbone.")[0]) == {"v"}
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        weights_file(tmp_path / "elsewhere", "last")


class Command:
    def __reduce__(self):
        return print, ("unpickled code ran",)


def test_code_in_a_checkpoint_never_runs(tmp_path, capsys):
    save(tmp_path, 1)
    folder = set_folder(tmp_path, 1)
    torch.save({"epoch": 0, "state_dict": Command()}, folder / "training.ckpt")
    sums = json.loads((folder / "checksums.json").read_text())
    sums["training.ckpt"] = checkpoint_files._checksum(folder / "training.ckpt")
    (folder / "checksums.json").write_text(json.dumps(sums))
    with pytest.raises(CheckpointError, match="damaged"):
        read_set(folder)
    assert "unpickled" not in capsys.readouterr().out


def test_what_cannot_be_written_is_said_and_older_sets_stay(tmp_path, monkeypatch):
    save(tmp_path, 1)

    def full(content, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(StorageError, match="epoch-000002 cannot be written .*No space left on device"):
        save(tmp_path, 2)
    monkeypatch.undo()
    assert names(tmp_path) == ["best.ckpt", "epoch-000001"]
    assert read_set(set_folder(tmp_path, 1))["epoch"] == 0


_MEMORY = """
import gc, resource, sys, torch
from pathlib import Path
from selfkd.training.checkpoint_files import HISTORY_KEY, CheckpointFiles, read_set
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
tensor = torch.ones(100_000_000)  # 400 MB
path = Path(sys.argv[1])
before = peak()
CheckpointFiles().save_checkpoint({"epoch": 0, "state_dict": {}, HISTORY_KEY: {"p": tensor}}, path)
after_saving = peak()
del tensor
gc.collect()  # torch's writer leaves a cycle that refers to it
read_set(path)[HISTORY_KEY]["p"].sum()
print(after_saving - before, peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux does")
def test_neither_saving_nor_loading_holds_a_checkpoint_twice(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", _MEMORY, str(tmp_path / "epoch-000001")], capture_output=True, text=True, check=True
    )
    saving, loading = map(int, done.stdout.split())
    assert saving < 100e6
    assert loading < 200e6
