import pytest

from selfkd.errors import CheckpointError
from selfkd.training.epoch_log import EpochLog, read_epoch_log


def test_rows_of_a_killed_attempt_are_dropped_and_columns_may_come_late(tmp_path):
    path = tmp_path / "metrics.csv"
    log = EpochLog(path, done_epochs=0)
    for epoch in (1, 2, 3):
        extra = {"test/top1/main": 50.0} if epoch == 2 else {}
        log.log_metrics({"train/loss": 1 / epoch, "seconds/train": 1.0, **extra}, step=epoch)
    log.log_metrics({"epoch": 2}, step=3)  # Lightning's own
    continued = EpochLog(path, done_epochs=2)
    continued.log_metrics({"train/loss": 0.25, "seconds/train": 1.0}, step=3)
    assert read_epoch_log(path) == [
        {"epoch": 1, "train/loss": 1, "seconds/train": 1},
        {"epoch": 2, "train/loss": 0.5, "seconds/train": 1, "test/top1/main": 50},
        {"epoch": 3, "train/loss": 0.25, "seconds/train": 1},
    ]


def test_no_file_is_no_rows(tmp_path):
    assert read_epoch_log(tmp_path / "metrics.csv") == []


@pytest.mark.parametrize(
    "text", ["epoch,train/loss\n1,0.5\n", "epoch,train/loss,seconds/train\n1,0.5,x\n", "\0garbage\n1\n"]
)
def test_a_damaged_file_is_named(tmp_path, text):
    path = tmp_path / "metrics.csv"
    path.write_text(text)
    with pytest.raises(CheckpointError, match=r"metrics.csv is damaged.*remove it"):
        EpochLog(path, done_epochs=1)


def test_a_folder_in_its_place_is_named(tmp_path):
    path = tmp_path / "metrics.csv"
    path.mkdir()
    with pytest.raises(CheckpointError, match=r"metrics.csv is damaged \(it is not a file\); remove it"):
        read_epoch_log(path)
