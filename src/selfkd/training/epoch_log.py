"""metrics.csv: one row per epoch, exact after a resume."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger

from selfkd.atomic_files import written_whole
from selfkd.errors import CheckpointError

__all__ = ["EpochLog", "read_epoch_log"]

_EPOCH = "epoch"
_ALWAYS_LOGGED = ("train/loss", "seconds/train")


def read_epoch_log(path: Path) -> list[dict[str, float]]:
    """The rows of a metrics.csv; cells that an epoch did not fill are left out. No file is no rows.

    Raises: CheckpointError: if the file is damaged.
    """
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
    except (ValueError, TypeError, AttributeError, csv.Error) as error:
        raise CheckpointError(f"{path} is damaged ({error}); remove it to continue without the earlier rows") from error
    if not all({_EPOCH, *_ALWAYS_LOGGED} <= set(row) for row in rows):
        raise CheckpointError(f"{path} is damaged; remove it to continue without the earlier rows")
    return rows


class EpochLog(Logger):
    """Writes metrics.csv. Lightning's CSVLogger deletes its file when a run is continued; this one keeps it.

    Args:
        path: the file.
        done_epochs: epochs that the checkpoint holds; later rows belong to a killed attempt and are dropped.
    """

    def __init__(self, path: Path, done_epochs: int) -> None:
        super().__init__()
        self.path = path
        self._rows = [row for row in read_epoch_log(path) if row[_EPOCH] <= done_epochs]

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The run's recipe.yaml holds them."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add the row of one epoch (`step`, counted from 1) and write the file, whole or not at all."""
        if "train/loss" not in metrics:
            return  # Lightning's own metrics, which hold nothing new
        self._rows.append({_EPOCH: float(step or 0), **metrics})
        columns = list(dict.fromkeys(key for row in self._rows for key in row))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        for row in self._rows:
            writer.writerow({key: f"{value:.10g}" for key, value in row.items()})
        with written_whole(self.path) as partial:
            partial.write_text(text.getvalue(), encoding="utf-8", newline="")
