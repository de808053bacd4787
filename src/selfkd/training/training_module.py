"""The LightningModule that `fit` trains. All tasks share it, and each adds its own part."""

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
from selfkd.training.learning_rates import unscaled_learning_rate
from selfkd.training.options import TrainerOptions

__all__ = ["SelectionMetric", "TrainingModule"]

_log = logging.getLogger("selfkd")


@dataclass(frozen=True)
class SelectionMetric:
    """The metric that selects the best epoch of a run.

    Args:
        split: the split that is evaluated.
        metric: name of the metric.
        head: the head that is evaluated.
        higher_is_better: whether the highest value is the best.
    """

    split: str
    metric: str
    head: str = "main"
    higher_is_better: bool = True

    @property
    def column(self) -> str:
        """The metric's name in the scores of an evaluation and in metrics.csv."""
        return f"{self.split}/{self.metric}/{self.head}"


class TrainingModule(pl.LightningModule, ABC):
    """A LightningModule of any task. `fit` trains, evaluates, saves and continues it.

    A subclass defines the members that Lightning needs (`train_dataloader`, `configure_optimizers`, `training_step`)
    and the abstract members of this class. It may also define `begin_epoch`, `guard`, `prepare_cpu` and
    `too_little_memory`. If it overrides one of Lightning's hooks that this class defines, it calls that of `super()`.
    Its loaders need generators of their own, `DataLoader(..., generator=...)`. Otherwise a continued run would draw
    other random numbers in its steps than a run that never stopped.

    Args:
        options: the recipe's `trainer.*`.
        seed: the recipe's seed. Random numbers in a step depend only on the seed, the epoch and the process.
    Attributes:
        latest: the selection metric's value at the latest evaluation, or None before the first.
        is_best: whether that value is the best so far, among the epochs after `best_after_epoch`.
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
        """The network or method that computes a step. The options may compile it or put it in channels-last layout."""

    @property
    @abstractmethod
    def selection_metric(self) -> SelectionMetric:
        """The metric that selects the best epoch."""

    @property
    @abstractmethod
    def steps_per_epoch(self) -> int:
        """Number of batches that this process has in an epoch."""

    @abstractmethod
    def evaluate(self) -> Mapping[str, Score]:
        """The scores by "<split>/<metric>/<head>", with the selection metric among them. Every process calls this.

        Raises: NonFiniteLossError: if a logit or a score is NaN or infinite.
        """

    @abstractmethod
    def end_epoch(self) -> dict[str, float]:
        """End an epoch's training. Returns the values to log, with "train/loss"; they are the same in all processes."""

    def begin_epoch(self) -> None:
        """Prepare an epoch. An interrupted epoch begins again."""

    def guard(self) -> None:
        """Check for values that must end the run, such as a loss that is NaN. This may wait for the device.

        It is called after every `trainer.guard_every` steps, and at the end of an epoch before anything is saved.
        """

    def prepare_cpu(self, kept_threads: int | None) -> None:
        """Set torch's number of threads for a training on a CPU; by default the user's number or the earlier one.

        Args:
            kept_threads: the number that the run used so far; None for a new run.
        """
        number = self.options.threads or kept_threads
        if number is not None:
            torch.set_num_threads(number)

    def too_little_memory(self, device: torch.device) -> str:
        """The error message when the device's memory runs out in training: what was needed, and what might fit."""
        return f"{device} has too little memory for this training"

    def setup(self, stage: str) -> None:
        self.is_best = False

    def on_fit_start(self) -> None:  # runs after `on_load_checkpoint`, even if the training is complete already
        if self.device.type == "cpu":
            self.prepare_cpu(self._kept_threads)

    def on_train_epoch_start(self) -> None:
        # Random numbers (dropout, mixing) depend only on seed, epoch and process: a repeated epoch draws the same.
        key = [self.seed, self.current_epoch, *([self.global_rank] if self.global_rank else [])]
        state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
        torch.manual_seed(int(state))
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        self._first_lr = unscaled_learning_rate(optimizer.param_groups)
        self._epoch_started = time.perf_counter()
        self.begin_epoch()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if (batch_idx + 1) % self.options.guard_every == 0:
            self.guard()

    def on_train_epoch_end(self) -> None:
        self._guard_all()  # before the checkpoint of this epoch is written; waits for the device
        trained = time.perf_counter()
        training_values = self.end_epoch()
        scores = self.evaluate() if self._evaluation_is_due() else {}
        self._select(scores)
        record = {
            **training_values,
            **{name: score["value"] for name, score in scores.items()},
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
                f"{before} processes trained this run so far, with {steps_before} steps per epoch; {now} would need "
                f"{steps} steps, because each process needs two samples of the last batch; continue with {before}"
            )
        # With another number of processes the rounding changes anyway. Old checkpoints have no number of threads.
        self._kept_threads = checkpoint.get(THREADS_KEY) if before == now else None
        if before != now and not self.options.sync_batchnorm:
            _log.warning(
                "%d processes trained this run so far, now there are %d: batch normalisation sees other images",
                before,
                now,
            )

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        try:
            return super().load_state_dict(state_dict, strict, assign)
        except RuntimeError as error:
            raise CheckpointError(f"the checkpoint does not fit this run: {error}") from error

    @property
    def _worst(self) -> float:
        """The worst possible value of the selection metric."""
        return -math.inf if self.selection_metric.higher_is_better else math.inf

    def _guard_all(self) -> None:
        self.guard()
        # The last step can spoil the weights, and no loss has shown that yet.
        if not nn.utils.get_total_norm(self.trained.parameters()).isfinite():
            raise NonFiniteLossError(f"weights became NaN or infinite at the end of epoch {self.current_epoch + 1}")

    def _evaluation_is_due(self) -> bool:
        done = self.current_epoch + 1
        return done % self.options.evaluate_every == 0 or done == self.options.epochs

    def _may_be_best(self) -> bool:
        """Whether the epoch comes after `best_after_epoch`. In a shorter run every epoch may be the best."""
        after = self.options.best_after_epoch
        return self.current_epoch >= after or self.options.epochs <= after

    def _select(self, scores: Mapping[str, Score]) -> None:
        """Store the selection metric of an evaluated epoch, and whether it is the best so far."""
        self.is_best = False
        if not scores:
            return
        self.latest = scores[self.selection_metric.column]
        value, best = float(self.latest["value"]), self._worst if self._best is None else self._best
        if not math.isfinite(value):
            raise NonFiniteLossError(
                f"{self.selection_metric.column} is NaN or infinite "
                f"in the evaluation after epoch {self.current_epoch + 1}"
            )
        better = value > best if self.selection_metric.higher_is_better else value < best
        if better and self._may_be_best():
            self._best, self.is_best = value, True
