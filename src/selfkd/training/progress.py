"""One progress bar for a whole run, on the standard error stream."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from tqdm import tqdm

from selfkd.training.module import MethodModule

__all__ = ["RunProgressBar"]


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
        latest = pl_module.latest if isinstance(pl_module, MethodModule) else None
        shown = "" if latest is None else f" {latest:.1f} %"
        self._bar.set_postfix_str(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}{shown}", refresh=False)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
