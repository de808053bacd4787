"""metrics.csv: one row per epoch, exact after a resume."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger

from selfkd.atomic_files import written_whole
from selfkd.errors import CheckpointError

__all__ = ["EpochLog", "EpochLogger", "read_epoch_log"]

_EPOCH = "epoch"
_ALWAYS_LOGGED = ("train/loss", "seconds/train")


def read_epoch_log(path: Path) -> list[dict[str, float]]:
    """The rows of a metrics.csv, without their empty cells; no rows if there is no file.

    Raises: CheckpointError: if the file is damaged.
    """
    if not path.exists():
        return []
    try:
        if not path.is_file():
            raise OSError("it is not a file")
        with path.open(newline="", encoding="utf-8") as file:
            rows = [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
    except (OSError, ValueError, TypeError, AttributeError, csv.Error) as error:
        raise CheckpointError(f"{path} is damaged ({error}); remove it to continue without the earlier rows") from error
    if not all({_EPOCH, *_ALWAYS_LOGGED} <= set(row) for row in rows):
        raise CheckpointError(f"{path} is damaged; remove it to continue without the earlier rows")
    return rows


class EpochLogger(Logger):
    """A logger of the values of each epoch. It logs no options, because the run's recipe.yaml holds them."""

    @property
    def name(self) -> str:
        return type(self).__name__

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Log nothing."""


class EpochLog(EpochLogger):
    """Writes metrics.csv. Lightning's CSVLogger deletes its file when a run continues; this one keeps it.

    Args:
        path: the file.
        done_epochs: number of epochs in the checkpoint. Later rows come from a killed attempt and are dropped.
    """

    def __init__(self, path: Path, done_epochs: int) -> None:
        super().__init__()
        self.path = path
        self._rows = [row for row in read_epoch_log(path) if row[_EPOCH] <= done_epochs]
        self._columns: list[str] = []
        self._lines: list[str] = []  # the file's lines, so that an epoch formats only its own row

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add the row of one epoch (`step`, counted from 1), and write the whole file or nothing."""
        if "train/loss" not in metrics:
            return  # Lightning's own metrics, which add nothing
        row = {_EPOCH: float(step or 0), **metrics}
        self._rows.append(row)
        if self._lines and set(row) <= set(self._columns):
            self._lines.append(self._line(row))
        else:
            self._columns = list(dict.fromkeys(key for each in self._rows for key in each))
            self._lines = [_csv_line(self._columns), *(self._line(each) for each in self._rows)]
        with written_whole(self.path) as partial:
            partial.write_text("".join(self._lines), encoding="utf-8", newline="")

    def _line(self, row: dict[str, float]) -> str:
        return _csv_line([f"{row[column]:.10g}" if column in row else "" for column in self._columns])


def _csv_line(cells: list[str]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerow(cells)
    return text.getvalue()
