"""The progress of a run: one bar on standard error for all epochs, or a line in the log per evaluated epoch."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from typing import Any

import pytorch_lightning as pl
from tqdm.auto import tqdm

from selfkd.evaluation.scores import in_words
from selfkd.progress_bars import log_above_bars
from selfkd.training.epoch_log import EpochLogger
from selfkd.training.training_module import TrainingModule

__all__ = ["EpochLines", "RunProgressBar"]

_log = logging.getLogger("selfkd")


class RunProgressBar(pl.Callback):
    """One bar for the steps of all epochs. Lightning's own bar starts again with every epoch.

    Args:
        title: the text before the bar.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._bar: tqdm[Any] | None = None
        self._opened = ExitStack()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        total = int(trainer.num_training_batches) * int(trainer.max_epochs or 0)
        bar = tqdm(total=total, initial=trainer.global_step, desc=self.title, unit="step", mininterval=0.5)
        self._bar = self._opened.enter_context(bar)
        self._opened.enter_context(log_above_bars())

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        assert self._bar is not None
        self._bar.update()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert self._bar is not None
        latest = pl_module.latest if isinstance(pl_module, TrainingModule) else None
        shown = "" if latest is None else f" {in_words(latest)}"
        self._bar.set_postfix_str(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}{shown}", refresh=False)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._opened.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._opened.close()


class EpochLines(EpochLogger):
    """Writes a line to the log for every evaluated epoch, instead of a bar.

    Args:
        title: the text before each line.
        module: the module in training.
    """

    def __init__(self, title: str, module: TrainingModule) -> None:
        super().__init__()
        self.title = title
        self.module = module

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Write the line of an epoch (`step`, counted from 1) if it was evaluated."""
        selecting, latest = self.module.selection_metric, self.module.latest
        if latest is not None and selecting.column in metrics:
            done = f"epoch {step}/{self.module.options.epochs}, {selecting.split} {in_words(latest)}"
            seconds = metrics["seconds/train"] + metrics["seconds/evaluate"]
            _log.info("%s: %s, loss %.4g, %.3g s", self.title, done, metrics["train/loss"], seconds)
