"""How many epochs of a run are done, and how long one takes. Little is read, and torch is not imported.

The length of metrics.csv does not matter: its first line and its end are read.
"""

from __future__ import annotations

import csv
import os
import statistics
from dataclasses import dataclass

from selfkd.runs.run_folder import RunFolder
from selfkd.training.checkpoint_names import checkpoints_in, epochs_in

__all__ = ["EpochCount", "logged_epochs", "saved_epochs"]

_EPOCH, _TRAINING, _EVALUATION = "epoch", "seconds/train", "seconds/evaluate"
_MOST_ROWS = 50
_LONGEST_END = 2**16  # bytes of these rows that are read
_LONGEST_HEADER = 2**20


@dataclass(frozen=True)
class EpochCount:
    """The epochs that a run has logged.

    Args:
        done: number of epochs, those of an earlier attempt included.
        seconds: mean duration of one of the last epochs, with its share of the evaluations; None if it is not known.
    """

    done: int
    seconds: float | None


def logged_epochs(folder: RunFolder) -> EpochCount:
    """Count the epochs in a run's metrics.csv, or in its checkpoints if it has no such file or the file is damaged."""
    try:
        rows = _last_rows(folder)
        done = int(float(rows[-1][_EPOCH]))
        seconds = statistics.fmean(float(row[_TRAINING]) + float(row.get(_EVALUATION) or 0) for row in rows)
    except (OSError, ValueError, LookupError, TypeError, OverflowError, csv.Error):
        return EpochCount(saved_epochs(folder), None)
    return EpochCount(done, seconds)


def saved_epochs(folder: RunFolder) -> int:
    """The number of epochs in a run's newest checkpoint, whose files are not checked; 0 if there is none."""
    try:
        return max(map(epochs_in, checkpoints_in(folder.checkpoints)), default=0)
    except OSError:
        return 0


def _last_rows(folder: RunFolder) -> list[dict[str, str]]:
    if not folder.metrics_file.is_file():
        raise OSError("there is no such file")  # to open a pipe would wait for its other end
    with folder.metrics_file.open("rb") as file:
        header = file.readline(_LONGEST_HEADER)
        begin = file.tell()
        end = file.seek(0, os.SEEK_END)
        file.seek(max(begin, end - _LONGEST_END))
        lines = file.read(_LONGEST_END).decode().splitlines()
    if end - begin > _LONGEST_END:
        del lines[0]  # its beginning was not read
    names = next(csv.reader([header.decode()]))
    return list(csv.DictReader(lines, fieldnames=names))[-_MOST_ROWS:]
