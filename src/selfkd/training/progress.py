"""How far a run is: one progress bar for all of it on standard error, or a line in the log per evaluated epoch."""

from __future__ import annotations

import logging
from typing import Any

import pytorch_lightning as pl
from tqdm import tqdm

from selfkd.evaluation.scores import in_words
from selfkd.training.epoch_log import EpochLogger
from selfkd.training.training_module import TrainingModule

__all__ = ["EpochLines", "RunProgressBar"]

_log = logging.getLogger("selfkd")


class RunProgressBar(pl.Callback):
    """Steps of all epochs in one bar: Lightning's own restart with every epoch, which hides a run of many short ones.

    Args:
        title: what stands before the bar.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._bar: tqdm[Any] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        total = int(trainer.num_training_batches) * int(trainer.max_epochs or 0)
        self._bar = tqdm(total=total, initial=trainer.global_step, desc=self.title, unit="step", mininterval=0.5)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        assert self._bar is not None
        self._bar.update()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert self._bar is not None
        latest = pl_module.latest if isinstance(pl_module, TrainingModule) else None
        shown = "" if latest is None else f" {in_words(latest)}"
        self._bar.set_postfix_str(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}{shown}", refresh=False)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class EpochLines(EpochLogger):
    """A line in the log for every evaluated epoch, where no bar is wanted.

    Args:
        title: what stands before.
        module: is trained.
    """

    def __init__(self, title: str, module: TrainingModule) -> None:
        super().__init__()
        self.title = title
        self.module = module

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Write the line of one epoch (`step`, counted from 1), if it was evaluated."""
        selecting, latest = self.module.selecting, self.module.latest
        if latest is not None and selecting.column in metrics:
            done = f"epoch {step}/{self.module.options.epochs}, {selecting.split} {in_words(latest)}"
            seconds = metrics["seconds/train"] + metrics["seconds/evaluate"]
            _log.info("%s: %s, loss %.4g, %.3g s", self.title, done, metrics["train/loss"], seconds)
