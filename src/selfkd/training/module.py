"""The one Lightning module for all methods. It knows a method only by its contract."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor, distributed
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from selfkd.contract import Batch, Progress, StepOutput
from selfkd.data.batches import EvaluationBatches, TrainingBatches, TrainingEpoch
from selfkd.errors import CheckpointError, NonFiniteLossError
from selfkd.evaluation.scores import evaluate
from selfkd.methods.base import Method
from selfkd.training.allocator import jemalloc_advice
from selfkd.training.checkpoint_files import (
    BEST_KEY,
    MEMORIES_KEY,
    PROCESSES_KEY,
    STEPS_KEY,
    THREADS_KEY,
    write_best,
)
from selfkd.training.memory import memory_to_evaluate
from selfkd.training.options import TrainerOptions
from selfkd.training.processes import is_first, together
from selfkd.training.step_meter import StepMeter
from selfkd.training.threads import choose_threads

__all__ = ["MethodModule", "TrainingParts"]

_log = logging.getLogger("selfkd")


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

    training_loader: TrainingBatches[Any]
    selection_loader: EvaluationBatches[Any]
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
        checkpoints: folder that gets the weights of the best epoch so far.
    Attributes:
        latest: accuracy in percent at the latest evaluation, or None before the first.
    """

    def __init__(self, method: Method, parts: TrainingParts, options: TrainerOptions, checkpoints: Path) -> None:
        super().__init__()
        self.method = method
        self.parts = parts
        self.options = options
        self.checkpoints = checkpoints
        self.latest: float | None = None
        self._best = -1.0
        self._meter = StepMeter()
        self._output: StepOutput | None = None
        self._epoch_started = 0.0
        self._first_lr = 0.0
        self._kept_threads: int | None = None

    def setup(self, stage: str) -> None:
        self.parts.training_loader.share_out(self.global_rank, self.trainer.world_size)

    def train_dataloader(self) -> TrainingEpoch:
        self.parts.training_loader.to(self.device)
        return self.parts.training_loader.epoch(min(self.current_epoch, self.options.epochs - 1))

    def configure_optimizers(self) -> Any:
        optimizer = self.parts.make_optimizer(self.method.parameter_groups())
        schedule = self.parts.make_schedule(optimizer, self.options.epochs, len(self.parts.training_loader))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_fit_start(self) -> None:  # comes after `on_load_checkpoint`, and in a run whose training is complete too
        if self.device.type == "cpu":
            self._prepare_cpu()

    def on_train_start(self) -> None:
        for memory in self.method.memories.values():  # only now has Lightning moved the method to its device
            memory.to(self.device)

    def on_train_epoch_start(self) -> None:
        # What the model draws (dropout, mixing) depends on seed, epoch and process alone, so a replay draws the same.
        key = [self.parts.seed, self.current_epoch, *([self.global_rank] if self.global_rank else [])]
        state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
        torch.manual_seed(int(state))
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        self._first_lr = optimizer.param_groups[0]["lr"]
        self._epoch_started = time.perf_counter()
        self._meter.reset()
        self.method.begin_epoch(self._progress(0))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        # Of a compiled method, the last step's outputs may be overwritten.
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        self._output = self.method(batch, self._progress(batch_idx))
        share = self.parts.training_loader.share(batch_idx)
        # Processes' gradients are averaged as if all had seen as many samples.
        return self._output.loss if share == 1 else self._output.loss * share

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        assert self._output is not None
        self._meter.update(self._output, batch.labels)
        if (batch_idx + 1) % self.options.guard_every == 0:
            self._look()
        self.method.after_step(batch, self._output)
        self._output = None

    def on_train_epoch_end(self) -> None:
        self._meter.gather()
        self._guard()  # before the checkpoint of this epoch is written; waits for the device
        trained = time.perf_counter()
        self.method.end_epoch(self._progress(0))
        scores = self._evaluate() if self._evaluation_is_due() else {}
        record = {
            **self._meter.compute(),
            **scores,
            "lr": self._first_lr,
            "seconds/train": trained - self._epoch_started,
            "seconds/evaluate": time.perf_counter() - trained,
        }
        for logger in self.loggers:
            logger.log_metrics(record, step=self.current_epoch + 1)

    def _look(self) -> None:
        self.method.guard()  # first, since a wrong label can be what made the loss NaN
        self._meter.guard(self.current_epoch)

    def _guard(self) -> None:
        self._look()
        # A last step can spoil weights without any loss having shown it.
        if not torch.nn.utils.get_total_norm(self.method.parameters()).isfinite():
            raise NonFiniteLossError(f"weights became NaN or infinite at the end of epoch {self.current_epoch + 1}")

    def _prepare_cpu(self) -> None:
        """Choose the number of threads, and say what gives the memory."""
        images, backbone = self.parts.training_loader.batch_size // self.trainer.world_size, self.method.backbone
        asked, kept = self.options.threads, self._kept_threads
        choice = choose_threads(backbone.network, backbone.input_size, images, asked, kept)
        torch.set_num_threads(choice.number)
        _log.info("threads that compute: %d (%s)", choice.number, choice.reason)
        element = torch.float32 if self.options.precision == "32" else torch.bfloat16
        memory = jemalloc_advice(max(map(math.prod, backbone.stage_shapes)) * images * element.itemsize)
        if memory is not None:
            _log.info("%s", memory)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[BEST_KEY] = self._best
        checkpoint[PROCESSES_KEY] = self.trainer.world_size
        checkpoint[STEPS_KEY] = len(self.parts.training_loader)
        checkpoint[THREADS_KEY] = torch.get_num_threads() if self.device.type == "cpu" else None
        checkpoint[MEMORIES_KEY] = self.method.memories_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._best = checkpoint[BEST_KEY]
        before, now = checkpoint[PROCESSES_KEY], self.trainer.world_size
        steps_before, steps = checkpoint[STEPS_KEY], len(self.parts.training_loader)
        if steps_before != steps:  # the schedule counts steps
            raise CheckpointError(
                f"{before} processes trained it so far, in {steps_before} steps an epoch; {now} would take {steps}, "
                f"since the last batch must give each process two samples; continue with {before}"
            )
        # Of runs that noted no number, or were trained by other processes, the rounding is not known or another anyway.
        self._kept_threads = checkpoint.get(THREADS_KEY) if before == now else None
        if before != now and not self.options.sync_batchnorm:
            _log.warning("%d processes trained it so far, now %d: batch normalisation sees other shares", before, now)
        self.method.continue_after(checkpoint["epoch"] + 1)
        self.method.load_memories_state(checkpoint[MEMORIES_KEY])

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        try:
            return super().load_state_dict(state_dict, strict, assign)
        except RuntimeError as error:
            raise CheckpointError(f"the checkpoint does not fit this run: {error}") from error

    def _progress(self, step: int) -> Progress:
        return Progress(self.current_epoch, self.options.epochs, step, len(self.parts.training_loader))

    def _evaluation_is_due(self) -> bool:
        done = self.current_epoch + 1
        return done % self.options.evaluate_every == 0 or done == self.options.epochs

    def _may_be_best(self) -> bool:
        """By the paper's rule, or in a run too short for it any epoch. There always is one: the last is evaluated."""
        after = self.options.best_after_epoch
        return self.current_epoch >= after or self.options.epochs <= after

    def _evaluate(self) -> dict[str, float]:
        """Scores on the selecting split, for the log; keeps the weights if they are the best so far.

        The papers evaluate in float32; so does this, which runs outside Lightning's autocast. Processes share it out,
        with the running statistics of the first, which alone are saved.
        """
        if together():
            for buffer in self.method.buffers():
                distributed.broadcast(buffer, src=0)
        loader = self.parts.selection_loader
        try:
            with memory_to_evaluate(loader.batch_size):
                scores = evaluate(self.method, loader, self.device)
        except NonFiniteLossError as error:
            raise NonFiniteLossError(
                f"{error} in the evaluation after epoch {self.current_epoch + 1}; "
                "try a lower optimizer.lr or trainer.precision=32"
            ) from error
        self.latest = scores["main"]["top1"]["value"]
        if self._may_be_best() and self.latest > self._best:
            self._best = self.latest
            if is_first():
                write_best(self.checkpoints, self.current_epoch, self.state_dict())
        return {
            f"{self.parts.selection_name}/{metric}/{head}": score["value"]
            for head, metrics in scores.items()
            for metric, score in metrics.items()
        }
