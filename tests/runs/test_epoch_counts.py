import os
import shutil

import pytest

from selfkd.runs.epoch_counts import EpochCount, logged_epochs, saved_epochs
from selfkd.runs.run_folder import RunFolder
from selfkd.training.epoch_log import EpochLog, read_epoch_log


def test_the_last_row_of_the_log_counts(unfinished):
    rows = read_epoch_log(unfinished.metrics_file)
    seconds = [row["seconds/train"] + row.get("seconds/evaluate", 0) for row in rows]
    assert logged_epochs(unfinished) == EpochCount(2, pytest.approx(sum(seconds) / 2))
    assert saved_epochs(unfinished) == 2


def test_of_a_long_log_the_end_is_read(tmp_path):
    folder = RunFolder(tmp_path)
    log = EpochLog(folder.metrics_file, 0)
    heads = {f"test/branch{number}/top1": 1 / 3 for number in range(150)}
    for epoch in range(1, 400):
        evaluation = {"seconds/evaluate": 5.0, **heads} if epoch % 10 == 0 else {}
        log.log_metrics({"train/loss": 0.1, "seconds/train": 2.0 if epoch > 50 else 1000.0, **evaluation}, epoch)
    assert folder.metrics_file.stat().st_size > 2**16
    assert logged_epochs(folder) == EpochCount(399, pytest.approx(2.5, abs=0.1))


@pytest.mark.parametrize(
    "content",
    [b"", b"epoch\n", b"epoch,seconds/train\nx,1\n", b"epoch,train/loss\n3,1\n", b"\xff", b"epoch,seconds/train\n9\n"],
)
def test_without_a_usable_log_the_newest_checkpoint_counts(unfinished, content):
    unfinished.metrics_file.write_bytes(content)
    assert logged_epochs(unfinished) == EpochCount(2, None)
    unfinished.metrics_file.unlink()
    assert logged_epochs(unfinished) == EpochCount(2, None)
    os.mkfifo(unfinished.metrics_file)
    assert logged_epochs(unfinished) == EpochCount(2, None)
    shutil.rmtree(unfinished.checkpoints)
    assert logged_epochs(unfinished) == EpochCount(0, None)
