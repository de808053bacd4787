import pytest
import torch

from selfkd.errors import CheckpointError, StorageError
from selfkd.training.checkpoint_files import CheckpointFiles
from selfkd.training.module import HISTORY_KEY


def checkpoint(epoch):
    return {"epoch": epoch, "state_dict": {"w": torch.full((3,), float(epoch))}, HISTORY_KEY: {"p": torch.ones(epoch)}}


def test_weights_and_history_go_together_and_only_the_newest_stays(tmp_path):
    files, path = CheckpointFiles(), tmp_path / "last.ckpt"
    for epoch in (1, 2):
        files.save_checkpoint(checkpoint(epoch), path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["last-history-epoch2.pt", "last.ckpt"]
    loaded = files.load_checkpoint(path)
    assert loaded["epoch"] == 2
    assert len(loaded[HISTORY_KEY]["p"]) == 2


def test_a_kill_between_the_two_files_leaves_the_old_pair_whole(tmp_path):
    files, path = CheckpointFiles(), tmp_path / "last.ckpt"
    files.save_checkpoint(checkpoint(1), path)
    torch.save({"p": torch.ones(2)}, tmp_path / "last-history-epoch2.pt")  # written, the checkpoint not yet
    (tmp_path / "last.ckpt.partial").write_bytes(b"half")
    loaded = files.load_checkpoint(path)
    assert loaded["epoch"] == 1
    assert len(loaded[HISTORY_KEY]["p"]) == 1


@pytest.mark.parametrize("damaged", ["last.ckpt", "last-history-epoch1.pt"])
@pytest.mark.parametrize("size", [0, 100])
def test_a_damaged_file_is_named(tmp_path, damaged, size):
    files, path = CheckpointFiles(), tmp_path / "last.ckpt"
    files.save_checkpoint(checkpoint(1), path)
    file = tmp_path / damaged
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(CheckpointError, match=f"{damaged} is missing or damaged"):
        files.load_checkpoint(path)


class Command:
    def __reduce__(self):
        return print, ("unpickled code ran",)


def test_code_in_a_checkpoint_never_runs(tmp_path, capsys):
    torch.save({"state_dict": Command()}, tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match="damaged"):
        CheckpointFiles().load_checkpoint(tmp_path / "last.ckpt")
    assert "unpickled" not in capsys.readouterr().out


def test_what_cannot_be_written_is_said_and_the_old_pair_stays(tmp_path, monkeypatch):
    files, path = CheckpointFiles(), tmp_path / "last.ckpt"
    files.save_checkpoint(checkpoint(1), path)

    def full(content, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(StorageError, match="cannot be written .*No space left on device"):
        files.save_checkpoint(checkpoint(2), path)
    monkeypatch.undo()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["last-history-epoch1.pt", "last.ckpt"]
    assert files.load_checkpoint(path)["epoch"] == 1
