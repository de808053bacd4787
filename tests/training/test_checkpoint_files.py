import io
import json
import pickle
import subprocess
import sys
import zipfile

import pytest
import torch

from selfkd.errors import CheckpointError, MemoryExhaustedError, StorageError, UserError
from selfkd.training import checkpoint_content
from selfkd.training.checkpoint_content import (
    BEST_KEY,
    MEMORIES_KEY,
    PROCESSES_KEY,
    STEPS_KEY,
    THREADS_KEY,
    read_checkpoint,
    read_weights,
)
from selfkd.training.checkpoint_files import (
    CheckpointFiles,
    epochs_done,
    newest_checkpoint,
    restore_best,
    weights_file,
    write_best,
)
from selfkd.training.checkpoint_names import checkpoint_folder

# What training continues with.
CONTINUED = {
    "optimizer_states": [{"state": {}}],
    "lr_schedulers": [{"last_epoch": 1}],
    "loops": {"fit_loop": {}},
    "callbacks": {},
    BEST_KEY: 50.0,
    PROCESSES_KEY: 1,
    STEPS_KEY: 10,
    THREADS_KEY: None,
}
FILES = ["training.ckpt", "history.pt", "best.ckpt", "checksums.json"]


def weights(value):
    return {"method.w": torch.full((300,), float(value)), "method.backbone.v": torch.ones(1)}


def save(checkpoints, done, history=True):
    """A checkpoint after `done` epochs; its best epoch is the first."""
    if done == 1:
        write_best(checkpoints, 0, weights(-1))
    checkpoint = {"epoch": done - 1, "state_dict": weights(done), **CONTINUED}
    if history:
        checkpoint[MEMORIES_KEY] = {"history": {"p": torch.ones(done)}}
    CheckpointFiles().save_checkpoint(checkpoint, checkpoint_folder(checkpoints, done))


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def flip_a_bit(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_a_checkpoint_holds_all_that_belongs_together_and_the_one_before_stays(tmp_path):
    for done in (1, 2, 3):
        save(tmp_path, done)
    assert names(tmp_path) == ["best.ckpt", "epoch-000002", "epoch-000003"]
    for done in (2, 3):
        folder = checkpoint_folder(tmp_path, done)
        assert names(folder) == sorted(FILES)
        loaded = read_checkpoint(folder)
        assert loaded["epoch"] == done - 1
        assert len(loaded[MEMORIES_KEY]["history"]["p"]) == done
        assert read_weights(folder / "best.ckpt")[1] == 1
    assert newest_checkpoint(tmp_path) == checkpoint_folder(tmp_path, 3)
    assert epochs_done(tmp_path) == 3
    assert (tmp_path / "best.ckpt").samefile(checkpoint_folder(tmp_path, 2) / "best.ckpt"), "linked, not written again"


def test_what_a_killed_process_left_half_written_is_no_checkpoint(tmp_path):
    save(tmp_path, 1)
    partial = tmp_path / "epoch-000002.partial"
    partial.mkdir()
    (partial / "training.ckpt").write_bytes(b"half")
    broken_off = tmp_path / "epoch-000000"  # its removal was broken off
    broken_off.mkdir()
    (broken_off / "training.ckpt").write_bytes(b"half")
    assert newest_checkpoint(tmp_path) == checkpoint_folder(tmp_path, 1)
    save(tmp_path, 2)
    assert names(tmp_path) == ["best.ckpt", "epoch-000001", "epoch-000002"], "cleared away"
    assert read_checkpoint(checkpoint_folder(tmp_path, 2))["epoch"] == 1


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [flip_a_bit, lambda file: file.write_bytes(file.read_bytes()[:60])])
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tmp_path, caplog, name, damage):
    for done in (1, 2):
        save(tmp_path, done)
    file = checkpoint_folder(tmp_path, 2) / name
    content = file.read_bytes()
    file.unlink()  # else the other checkpoint's best epoch is damaged with it
    file.write_bytes(content)
    damage(file)
    assert newest_checkpoint(tmp_path) == checkpoint_folder(tmp_path, 1)
    assert epochs_done(tmp_path) == 1
    assert "going back to the checkpoint after epoch 1" in caplog.text
    assert "epoch-000002" in caplog.text
    save(tmp_path, 2)
    assert newest_checkpoint(tmp_path) == checkpoint_folder(tmp_path, 2)


def test_a_missing_file_is_damage_and_the_only_checkpoint_is_not_passed_over(tmp_path):
    save(tmp_path, 1)
    (checkpoint_folder(tmp_path, 1) / "history.pt").unlink()
    with pytest.raises(CheckpointError, match=r"history.pt is missing; no whole checkpoint is left; .*--overwrite"):
        newest_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match=r"history.pt is missing"):
        CheckpointFiles().load_checkpoint(checkpoint_folder(tmp_path, 1))


def test_going_back_leaves_nothing_from_beyond(tmp_path):
    for done in (1, 5):
        save(tmp_path, done)
    save(tmp_path, 3)  # after epoch 5 was found damaged
    assert names(tmp_path) == ["best.ckpt", "epoch-000001", "epoch-000003"]


def test_the_best_epoch_is_that_of_the_checkpoint_from_which_a_run_continues(tmp_path):
    save(tmp_path, 1)
    write_best(tmp_path, 2, weights(7))  # of an epoch that was never saved whole
    restore_best(tmp_path, newest_checkpoint(tmp_path))
    assert read_weights(tmp_path / "best.ckpt")[1] == 1
    write_best(tmp_path, 2, weights(7))
    assert read_weights(checkpoint_folder(tmp_path, 1) / "best.ckpt")[1] == 1, "a checkpoint never changes"
    restore_best(tmp_path, None)
    assert not (tmp_path / "best.ckpt").exists()


def test_a_folder_in_the_place_of_the_best_epoch_is_named_and_stays(tmp_path):
    save(tmp_path, 1)
    (tmp_path / "best.ckpt").unlink()
    (tmp_path / "best.ckpt" / "inside").mkdir(parents=True)
    for start in (None, newest_checkpoint(tmp_path)):
        with pytest.raises(CheckpointError, match=r"best.ckpt is a folder where a file should be; remove it"):
            restore_best(tmp_path, start)
    assert (tmp_path / "best.ckpt" / "inside").is_dir()


def test_a_best_epoch_that_is_only_half_written_spoils_no_checkpoint(tmp_path, monkeypatch):
    for done in (1, 2):
        save(tmp_path, done)
    restore_best(tmp_path, newest_checkpoint(tmp_path))  # a run that continues: all are names of one file
    assert names(tmp_path) == ["best.ckpt", "epoch-000001", "epoch-000002"]

    def killed(content, file):
        file.write(b"half")
        file.flush()
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        write_best(tmp_path, 2, weights(7))
    monkeypatch.undo()
    assert newest_checkpoint(tmp_path) == checkpoint_folder(tmp_path, 2)
    assert read_weights(tmp_path / "best.ckpt")[1] == 1
    write_best(tmp_path, 2, weights(7))
    assert names(tmp_path) == ["best.ckpt", "epoch-000001", "epoch-000002"]
    assert read_weights(tmp_path / "best.ckpt")[1] == 3
    for done in (1, 2):
        assert read_weights(checkpoint_folder(tmp_path, done) / "best.ckpt")[1] == 1


def test_where_files_cannot_be_linked_they_are_copied(tmp_path, monkeypatch):
    def refused(self, target):
        raise OSError("no links here")

    monkeypatch.setattr(checkpoint_content.Path, "hardlink_to", refused)
    save(tmp_path, 1)
    restore_best(tmp_path, newest_checkpoint(tmp_path))
    assert read_weights(tmp_path / "best.ckpt")[1] == 1


def test_weights_of_a_part_come_under_its_own_keys(tmp_path):
    save(tmp_path, 1)
    for which, value in (("last", 1), ("best", -1)):
        read, epoch = read_weights(weights_file(tmp_path, which), "method.")
        assert epoch == 1
        assert read["w"][0] == value
    assert set(read_weights(weights_file(tmp_path, "last"), "method.backbone.")[0]) == {"v"}
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        weights_file(tmp_path / "elsewhere", "last")


class Command:
    def __reduce__(self):
        return print, ("unpickled code ran",)


def craft(file, content, write=torch.save):
    """Replace a file of a checkpoint, with a checksum that is valid."""
    file.unlink()  # it may be a file of another checkpoint, too
    write(content, file)
    sums_file = file.parent / "checksums.json"
    sums = {**json.loads(sums_file.read_text()), file.name: checkpoint_content.checksum(file)}
    sums_file.write_text(json.dumps(sums))


def test_code_in_a_checkpoint_never_runs(tmp_path, capsys):
    save(tmp_path, 1)
    folder = checkpoint_folder(tmp_path, 1)
    craft(folder / "training.ckpt", {"epoch": 0, "state_dict": Command()})
    for read in (newest_checkpoint, lambda path: read_checkpoint(folder), lambda path: weights_file(path, "last")):
        with pytest.raises(CheckpointError, match="damaged or holds more than numbers, texts and tensors") as refused:
            read(tmp_path)
        assert "weights_only" not in str(refused.value)
    assert "unpickled" not in capsys.readouterr().out


def write_bytes(content, file):
    file.write_bytes(content)


WHOLE = {"epoch": 1, "state_dict": {"method.w": torch.ones(1)}, **CONTINUED}
UNFIT_TO_CONTINUE = {
    "no optimiser": {key: value for key, value in WHOLE.items() if key != "optimizer_states"},
    "no schedule": {**WHOLE, "lr_schedulers": []},
    "no loops": {**WHOLE, "loops": None},
    "an optimiser of another type": {**WHOLE, "optimizer_states": {"a": 1}},
    "another epoch": {**WHOLE, "epoch": 5},
}
NO_CHECKPOINT = {
    "a list": [WHOLE],
    "a tensor": torch.ones(3),
    "a number": 1,
    "no epoch": {"state_dict": WHOLE["state_dict"], **CONTINUED},
    "an epoch that is no number": {**WHOLE, "epoch": "1"},
    "an epoch before the first": {**WHOLE, "epoch": -5},
    "no weights": {"epoch": 1, **CONTINUED},
    "weights in a list": {**WHOLE, "state_dict": [torch.ones(1)]},
    "weights under numbers": {**WHOLE, "state_dict": {1: torch.ones(1)}},
    "code": Command(),
}


def archive(pickled):
    """A file as torch writes it, with these bytes for its pickle."""
    whole, made_up = io.BytesIO(), io.BytesIO()
    torch.save(WHOLE, whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(made_up, "w") as target:
        for name in source.namelist():
            target.writestr(name, pickled if name.endswith("data.pkl") else source.read(name))
    return made_up.getvalue()


NO_FILE = {
    "nothing": b"",
    "text": b"no checkpoint at all",
    "an archive that is cut": b"PK\x03\x04" + bytes(100),
    "an old pickle": pickle.dumps({"epoch": 1, "state_dict": {}}, protocol=0),
    "a pickle that refers to nothing": archive(b"\x80\x02h\x05."),
    "a pickle that is cut in a number": archive(b"\x80\x02}q\x00(X\x05\x00"),
    "a pickle that is cut in a text": archive(b"\x80\x02}q\x00(X\x05\x00\x00\x00ep"),
    "a pickle that takes from an empty stack": archive(b"\x80\x02R."),
    "a pickle that adds to None": archive(b"\x80\x02N(NNu."),
    "a pickle with storages unlike torch's": archive(b"\x80\x02(X\x07\x00\x00\x00storage1tQ."),
}


@pytest.mark.parametrize("content", [*NO_CHECKPOINT.values(), *NO_FILE.values()], ids=[*NO_CHECKPOINT, *NO_FILE])
def test_a_made_up_checkpoint_is_passed_over_like_a_damaged_one(tmp_path, caplog, content):
    for done in (1, 2):
        save(tmp_path, done)
    for name, which in (("best.ckpt", "best"), ("training.ckpt", "last")):
        file = checkpoint_folder(tmp_path, 2) / name
        craft(file, content, write_bytes if isinstance(content, bytes) else torch.save)
        caplog.clear()
        assert weights_file(tmp_path, which) == checkpoint_folder(tmp_path, 1) / name
        assert str(file) in caplog.text
        assert "going back to the checkpoint after epoch 1" in caplog.text
        with pytest.raises(CheckpointError, match=name):
            read_weights(file)
    assert newest_checkpoint(tmp_path) == checkpoint_folder(tmp_path, 1)
    assert "weights_only" not in caplog.text


@pytest.mark.parametrize("content", UNFIT_TO_CONTINUE.values(), ids=UNFIT_TO_CONTINUE)
def test_a_checkpoint_without_what_training_continues_with_is_passed_over_by_training_alone(tmp_path, caplog, content):
    for done in (1, 2):
        save(tmp_path, done)
    craft(checkpoint_folder(tmp_path, 2) / "training.ckpt", content)
    assert newest_checkpoint(tmp_path) == checkpoint_folder(tmp_path, 1)
    assert "another version of selfkd wrote it" in caplog.text or "training.ckpt is of epoch 6" in caplog.text
    assert weights_file(tmp_path, "last") == checkpoint_folder(tmp_path, 2) / "training.ckpt"


@pytest.mark.parametrize("content", ["[]", "null", '{"best.ckpt": 1}', '{"training.ckpt": 1, "..": 1}', "[" * 9999])
def test_made_up_checksums_are_damage(tmp_path, caplog, content):
    for done in (1, 2):
        save(tmp_path, done)
    (checkpoint_folder(tmp_path, 2) / "checksums.json").write_text(content)
    assert newest_checkpoint(tmp_path) == checkpoint_folder(tmp_path, 1)
    assert "going back to the checkpoint after epoch 1" in caplog.text


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_has_become_a_folder_is_damage(tmp_path, caplog, name):
    for done in (1, 2):
        save(tmp_path, done)
    file = checkpoint_folder(tmp_path, 2) / name
    file.unlink()
    (file / "inside").mkdir(parents=True)
    assert newest_checkpoint(tmp_path) == checkpoint_folder(tmp_path, 1)
    assert "going back to the checkpoint after epoch 1" in caplog.text
    save(tmp_path, 2)
    assert newest_checkpoint(tmp_path) == checkpoint_folder(tmp_path, 2)
    save(tmp_path, 3)
    assert names(tmp_path) == ["best.ckpt", "epoch-000002", "epoch-000003"]


def test_a_file_where_a_checkpoint_should_be_is_in_nobodys_way(tmp_path):
    save(tmp_path, 1)
    for name in ("epoch-000002", "epoch-000003.partial"):
        (tmp_path / name).write_text("no folder")
    assert newest_checkpoint(tmp_path) == checkpoint_folder(tmp_path, 1)
    save(tmp_path, 2)
    save(tmp_path, 3)
    assert names(tmp_path) == ["best.ckpt", "epoch-000002", "epoch-000003"]


def test_checkpoints_that_a_training_replaces_meanwhile_are_looked_for_again(tmp_path, monkeypatch):
    for done in (1, 2):
        save(tmp_path, done)
    look = checkpoint_content.checksum

    def look_late(file):
        monkeypatch.undo()
        for done in (3, 4):
            save(tmp_path, done)
        return look(file)

    monkeypatch.setattr(checkpoint_content, "checksum", look_late)
    assert weights_file(tmp_path, "last") == checkpoint_folder(tmp_path, 4) / "training.ckpt"


def short_of_memory(*arguments, **options):
    raise RuntimeError("unable to mmap 5686031 bytes from file <training.ckpt>: Cannot allocate memory (12)")


def short_of_kernel_memory(*arguments, **options):
    raise OSError(12, "Cannot allocate memory")


@pytest.mark.parametrize("too_little", [short_of_memory, short_of_kernel_memory])
@pytest.mark.parametrize("read", [torch.load, checkpoint_content.checksum])
def test_a_checkpoint_is_neither_damaged_nor_passed_over_where_memory_is_short(
    tmp_path, monkeypatch, caplog, read, too_little
):
    for done in (1, 2):
        save(tmp_path, done)
    monkeypatch.setattr(torch if read is torch.load else checkpoint_content, read.__name__, too_little)
    for use in (newest_checkpoint, lambda path: weights_file(path, "last"), lambda path: weights_file(path, "best")):
        with pytest.raises(
            MemoryExhaustedError, match="reading .*epoch-000002.* more memory .*Cannot .*; no checkpoint"
        ):
            use(tmp_path)
    with pytest.raises(MemoryExhaustedError):
        CheckpointFiles().load_checkpoint(checkpoint_folder(tmp_path, 2))
    assert caplog.text == ""
    monkeypatch.undo()
    assert newest_checkpoint(tmp_path) == checkpoint_folder(tmp_path, 2)


@pytest.mark.parametrize("name", ["history.pt", "best.ckpt"])
def test_weights_do_not_depend_on_what_else_is_damaged(tmp_path, caplog, name):
    save(tmp_path, 1)
    (checkpoint_folder(tmp_path, 1) / name).write_bytes(b"damaged")
    assert weights_file(tmp_path, "last") == checkpoint_folder(tmp_path, 1) / "training.ckpt"
    assert caplog.text == ""
    with pytest.raises(CheckpointError, match=f"{name} is damaged"):
        newest_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("[enforce fail] No space left on device\nframe #0")]
)
def test_what_cannot_be_written_is_said_and_older_checkpoints_stay(tmp_path, monkeypatch, error):
    save(tmp_path, 1)

    def full(content, file):
        file.write(b"half")
        raise error

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(StorageError, match="epoch-000002 cannot be written .*No space left on device"):
        save(tmp_path, 2)
    monkeypatch.undo()
    assert names(tmp_path) == ["best.ckpt", "epoch-000001"]
    assert read_checkpoint(checkpoint_folder(tmp_path, 1))["epoch"] == 0


_MEMORY = """
import gc, resource, sys, torch
from pathlib import Path
from selfkd.training.checkpoint_content import MEMORIES_KEY, read_checkpoint
from selfkd.training.checkpoint_files import CheckpointFiles
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
tensor = torch.ones(100_000_000)  # 400 MB
path = Path(sys.argv[1])
before = peak()
CheckpointFiles().save_checkpoint({"epoch": 0, "state_dict": {}, MEMORIES_KEY: {"history": {"p": tensor}}}, path)
after_saving = peak()
del tensor
gc.collect()  # torch's writer leaves a cycle that refers to it
read_checkpoint(path)[MEMORIES_KEY]["history"]["p"].sum()
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


def test_a_path_that_utf_8_cannot_write_is_no_damage(tmp_path):
    checkpoints = tmp_path / "r\udcff"
    checkpoints.mkdir()
    (checkpoints / "best.ckpt").write_bytes(b"whole")
    with pytest.raises(UserError, match="in characters that UTF-8 can write"):
        read_weights(checkpoints / "best.ckpt")
