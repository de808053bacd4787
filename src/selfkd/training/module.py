"""The one Lightning module for all methods. It knows a method only by its contract."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from selfkd.contract import Batch, Progress, StepOutput
from selfkd.data.resident import EvaluationLoader, TrainingEpoch, TrainingLoader
from selfkd.evaluation.scores import HeadMetrics
from selfkd.methods.base import Method
from selfkd.training.options import TrainerOptions
from selfkd.training.step_meter import StepMeter

__all__ = ["HISTORY_KEY", "SELECTION_METRIC", "MethodModule", "TrainingParts"]

HISTORY_KEY = "selfkd_history"
SELECTION_METRIC = "selection"


@dataclass(frozen=True)
class TrainingParts:
    """What a run is made of, beside the method.

    Args:
        training_loader: augmented batches.
        selection_loader: the split that chooses the best epoch.
        selection_name: "test" or "validation".
        make_optimizer: from parameter groups.
        make_schedule: from optimiser, epochs and steps per epoch.
        seed: of the run.
    """

    training_loader: TrainingLoader
    selection_loader: EvaluationLoader
    selection_name: str
    make_optimizer: Callable[[list[dict[str, Any]]], Optimizer]
    make_schedule: Callable[[Optimizer, int, int], LRScheduler]
    seed: int


class MethodModule(pl.LightningModule):
    """Trains any method.

    Args:
        method: what is trained.
        parts: loaders, optimiser, schedule, seed.
        options: of the run.
    """

    def __init__(self, method: Method, parts: TrainingParts, options: TrainerOptions) -> None:
        super().__init__()
        self.method = method
        self.parts = parts
        self.options = options
        self._meter = StepMeter()
        self._output: StepOutput | None = None
        self._head_metrics: HeadMetrics | None = None
        self._epoch_started = self._evaluation_started = 0.0
        self._evaluation_seconds = 0.0
        self._epoch_record: dict[str, float] = {}

    # Data

    def train_dataloader(self) -> TrainingEpoch:
        self.parts.training_loader.to(self.device)
        return self.parts.training_loader.epoch(min(self.current_epoch, self.options.epochs - 1))

    def val_dataloader(self) -> EvaluationLoader:
        self.parts.selection_loader.to(self.device)
        return self.parts.selection_loader

    # Training

    def configure_optimizers(self) -> Any:
        optimizer = self.parts.make_optimizer(self.method.parameter_groups())
        schedule = self.parts.make_schedule(optimizer, self.options.epochs, len(self.parts.training_loader))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        # What the model draws (dropout, mixing) depends on seed and epoch alone, so a replayed epoch draws the same.
        state = np.random.SeedSequence([self.parts.seed, self.current_epoch]).generate_state(1, np.uint64)[0]
        torch.manual_seed(int(state))
        self._epoch_started = time.perf_counter()
        self._evaluation_seconds = 0.0
        self._meter.reset()
        self._epoch_record = {}
        self.method.begin_epoch(self._progress(0))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self._output = self.method(batch, self._progress(batch_idx))
        return self._output.loss

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        assert self._output is not None
        self._meter.update(self._output, batch.labels)
        if (batch_idx + 1) % self.options.guard_every == 0:
            self._meter.guard(self.current_epoch)
        self.method.after_step(batch, self._output)
        self._output = None

    def on_train_epoch_end(self) -> None:
        self._meter.guard(self.current_epoch)  # before the checkpoint of this epoch is written
        self.method.end_epoch(self._progress(0))
        record = {
            **self._meter.compute(),
            **self._epoch_record,
            "lr": self.optimizers().param_groups[0]["lr"],  # type: ignore[union-attr]
            "seconds/train": time.perf_counter() - self._epoch_started - self._evaluation_seconds,
            "seconds/evaluate": self._evaluation_seconds,
        }
        for logger in self.loggers:
            logger.log_metrics(record, step=self.current_epoch + 1)

    def _progress(self, step: int) -> Progress:
        return Progress(self.current_epoch, self.options.epochs, step, len(self.parts.training_loader))

    # Evaluation, once an epoch

    def on_validation_epoch_start(self) -> None:
        self._evaluation_started = time.perf_counter()
        self._head_metrics = HeadMetrics(self.method.num_classes, self.device)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        assert self._head_metrics is not None
        with torch.autocast(self.device.type, enabled=False):  # the papers evaluate in float32
            self._head_metrics.update(self.method.predict(batch.images), batch.labels)

    def on_validation_epoch_end(self) -> None:
        assert self._head_metrics is not None
        scores = self._head_metrics.compute()
        for head, metrics in scores.items():
            for metric, score in metrics.items():
                self._epoch_record[f"{self.parts.selection_name}/{metric}/{head}"] = score["value"]
        accuracy = scores["main"]["top1"]["value"]
        # Epochs that the paper's rule leaves out rank below all others, but above nothing.
        eligible = self.current_epoch + 1 > self.options.best_after_epoch
        self.log(SELECTION_METRIC, accuracy if eligible else accuracy - 100, logger=False, batch_size=1)
        self._evaluation_seconds = time.perf_counter() - self._evaluation_started

    # Checkpoint: the history goes beside the weights

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        resumable = "optimizer_states" in checkpoint
        if resumable and self.method.history is not None:
            checkpoint[HISTORY_KEY] = self.method.history.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.method.history is not None:
            self.method.history.load_state_dict(checkpoint[HISTORY_KEY])
            self.method.history.to(self.device)
