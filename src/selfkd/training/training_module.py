"""The LightningModule that `fit` trains: all tasks share it, and each adds its own part."""

from __future__ import annotations

import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import nn

from selfkd.errors import CheckpointError, NonFiniteLossError
from selfkd.evaluation.scores import Score
from selfkd.training.checkpoint_content import BEST_KEY, PROCESSES_KEY, STEPS_KEY, THREADS_KEY
from selfkd.training.options import TrainerOptions

__all__ = ["SelectionMetric", "TrainingModule"]

_log = logging.getLogger("selfkd")


@dataclass(frozen=True)
class SelectionMetric:
    """The metric that selects the best epoch of a run.

    Args:
        split: the split on which it is measured.
        metric: its name.
        head: the head that it measures.
        higher_is_better: whether the highest value is the best.
    """

    split: str
    metric: str
    head: str = "main"
    higher_is_better: bool = True

    @property
    def column(self) -> str:
        """Its name among the figures of an evaluation, and in metrics.csv."""
        return f"{self.split}/{self.metric}/{self.head}"


class TrainingModule(pl.LightningModule, ABC):
    """A LightningModule of any task, which `fit` trains, evaluates, saves and continues.

    A subclass gives what Lightning asks for (`train_dataloader`, `configure_optimizers`, `training_step`), the members
    that are abstract here, and where it needs them `begin_epoch`, `guard`, `prepare_cpu` and `too_little_memory`. Where
    it overrides a hook of Lightning that stands here, it calls the one of `super()`. Its loaders draw from generators
    of their own, `DataLoader(..., generator=...)`; otherwise a run that is continued would draw other numbers in its
    steps than one that never stopped.

    Args:
        options: of the run.
        seed: of the run; what is drawn in a step depends on it, the epoch and the process alone.
    Attributes:
        latest: the selection metric's value at the latest evaluation, or None before the first.
        is_best: whether that value is the best so far, among the epochs that `best_after_epoch` admits.
    """

    def __init__(self, options: TrainerOptions, seed: int) -> None:
        super().__init__()
        self.options = options
        self.seed = seed
        self.latest: Score | None = None
        self.is_best = False
        self._best: float | None = None
        self._epoch_started = 0.0
        self._first_lr = 0.0
        self._kept_threads: int | None = None

    @property
    @abstractmethod
    def trained(self) -> nn.Module:
        """The network or method that computes a step; options say whether it is compiled and in channels-last."""

    @property
    @abstractmethod
    def selection_metric(self) -> SelectionMetric:
        """The metric that selects the best epoch."""

    @property
    @abstractmethod
    def steps_per_epoch(self) -> int:
        """Batches in an epoch, of this process."""

    @abstractmethod
    def evaluate(self) -> Mapping[str, Score]:
        """Measure: "<split>/<metric>/<head>" to score, the selection metric among them. Called in every process.

        Raises: NonFiniteLossError: if a logit or a score is NaN or infinite.
        """

    @abstractmethod
    def end_epoch(self) -> dict[str, float]:
        """End an epoch's training. Returns the values to log, "train/loss" among them, the same in all processes."""

    def begin_epoch(self) -> None:
        """Prepare an epoch. An epoch that was interrupted begins again."""

    def guard(self) -> None:
        """Check for values that must end the run, such as a loss that is NaN. It may wait for the device.

        Called after every `trainer.guard_every` steps, and at an epoch's end before anything is saved.
        """

    def prepare_cpu(self, kept_threads: int | None) -> None:
        """Choose torch's number of threads where a CPU trains; by default the user's number or the earlier one.

        Args:
            kept_threads: the number of the run so far; None for a new run.
        """
        number = self.options.threads or kept_threads
        if number is not None:
            torch.set_num_threads(number)

    def too_little_memory(self, device: torch.device) -> str:
        """The error when a device's memory runs out in training: what was needed, and what might fit."""
        return f"{device} has too little memory for this training"

    def setup(self, stage: str) -> None:
        self.is_best = False

    def on_fit_start(self) -> None:  # comes after `on_load_checkpoint`, and in a run whose training is complete too
        if self.device.type == "cpu":
            self.prepare_cpu(self._kept_threads)

    def on_train_epoch_start(self) -> None:
        # What the model draws (dropout, mixing) depends on seed, epoch and process alone, so a replay draws the same.
        key = [self.seed, self.current_epoch, *([self.global_rank] if self.global_rank else [])]
        state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
        torch.manual_seed(int(state))
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        self._first_lr = optimizer.param_groups[0]["lr"]
        self._epoch_started = time.perf_counter()
        self.begin_epoch()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if (batch_idx + 1) % self.options.guard_every == 0:
            self.guard()

    def on_train_epoch_end(self) -> None:
        self._guard_all()  # before the checkpoint of this epoch is written; waits for the device
        trained = time.perf_counter()
        of_training = self.end_epoch()
        figures = self.evaluate() if self._evaluation_is_due() else {}
        self._select(figures)
        record = {
            **of_training,
            **{name: figure["value"] for name, figure in figures.items()},
            "lr": self._first_lr,
            "seconds/train": trained - self._epoch_started,
            "seconds/evaluate": time.perf_counter() - trained,
        }
        for logger in self.loggers:
            logger.log_metrics(record, step=self.current_epoch + 1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[BEST_KEY] = self._worst if self._best is None else self._best
        checkpoint[PROCESSES_KEY] = self.trainer.world_size
        checkpoint[STEPS_KEY] = self.steps_per_epoch
        checkpoint[THREADS_KEY] = torch.get_num_threads() if self.device.type == "cpu" else None

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._best = checkpoint[BEST_KEY]
        before, now = checkpoint[PROCESSES_KEY], self.trainer.world_size
        steps_before, steps = checkpoint[STEPS_KEY], self.steps_per_epoch
        if steps_before != steps:  # the schedule counts steps
            raise CheckpointError(
                f"{before} processes trained it so far, in {steps_before} steps an epoch; {now} would take {steps}, "
                f"since the last batch must give each process two samples; continue with {before}"
            )
        # Of runs that noted no number, or were trained by other processes, the rounding is not known or another anyway.
        self._kept_threads = checkpoint.get(THREADS_KEY) if before == now else None
        if before != now and not self.options.sync_batchnorm:
            _log.warning("%d processes trained it so far, now %d: batch normalisation sees other shares", before, now)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        try:
            return super().load_state_dict(state_dict, strict, assign)
        except RuntimeError as error:
            raise CheckpointError(f"the checkpoint does not fit this run: {error}") from error

    @property
    def _worst(self) -> float:
        """A value that every other is better than."""
        return -math.inf if self.selection_metric.higher_is_better else math.inf

    def _guard_all(self) -> None:
        self.guard()
        # A last step can spoil weights without any loss having shown it.
        if not nn.utils.get_total_norm(self.trained.parameters()).isfinite():
            raise NonFiniteLossError(f"weights became NaN or infinite at the end of epoch {self.current_epoch + 1}")

    def _evaluation_is_due(self) -> bool:
        done = self.current_epoch + 1
        return done % self.options.evaluate_every == 0 or done == self.options.epochs

    def _may_be_best(self) -> bool:
        """Whether the epoch comes after `best_after_epoch`; in a run too short for that, every epoch does."""
        after = self.options.best_after_epoch
        return self.current_epoch >= after or self.options.epochs <= after

    def _select(self, figures: Mapping[str, Score]) -> None:
        """Note the selection metric of an evaluated epoch, and whether its weights are the best so far."""
        self.is_best = False
        if not figures:
            return
        self.latest = figures[self.selection_metric.column]
        value, best = float(self.latest["value"]), self._worst if self._best is None else self._best
        if not math.isfinite(value):
            raise NonFiniteLossError(
                f"{self.selection_metric.column} is NaN or infinite "
                f"in the evaluation after epoch {self.current_epoch + 1}"
            )
        better = value > best if self.selection_metric.higher_is_better else value < best
        if better and self._may_be_best():
            self._best, self.is_best = value, True
