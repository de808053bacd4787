"""The training module of all methods. It uses a method only through the contract."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from selfkd.contract import Batch, Progress, StepOutput
from selfkd.data.loading.batches import EvaluationBatches, TrainingBatches, TrainingEpoch
from selfkd.errors import NonFiniteLossError
from selfkd.evaluation.metrics import evaluate
from selfkd.evaluation.scores import Score
from selfkd.methods.base import Method
from selfkd.process_group import is_distributed
from selfkd.training.allocator import jemalloc_advice
from selfkd.training.checkpoint_content import MEMORIES_KEY
from selfkd.training.freezing import FrozenPart
from selfkd.training.learning_rates import LearningRates, scale_learning_rates
from selfkd.training.memory import memory_to_evaluate
from selfkd.training.options import TrainerOptions
from selfkd.training.step_meter import StepMeter
from selfkd.training.threads import choose_threads
from selfkd.training.training_module import SelectionMetric, TrainingModule

__all__ = ["METHOD", "NETWORK", "MethodModule", "TrainingParts"]

METHOD = "method."
"""The prefix of a method's keys among the weights of a checkpoint."""
NETWORK = f"{METHOD}backbone.network."
"""The prefix of the plain network's keys."""

_log = logging.getLogger("selfkd")


@dataclass(frozen=True)
class TrainingParts:
    """The parts of a training beside the method.

    Args:
        training_loader: gives augmented batches.
        selection_loader: gives the split that selects the best epoch.
        selection_name: name of that split: "test" or "validation".
        make_optimizer: builds the optimiser from parameter groups.
        make_schedule: builds the schedule from the optimiser, the number of epochs and the steps per epoch.
        seed: the recipe's seed.
        learning_rates: how the learning rates of the parameters differ.
    """

    training_loader: TrainingBatches[Any]
    selection_loader: EvaluationBatches[Any]
    selection_name: str
    make_optimizer: Callable[[list[dict[str, Any]]], Optimizer]
    make_schedule: Callable[[Optimizer, int, int], LRScheduler]
    seed: int
    learning_rates: LearningRates

    def optimizer(self, method: Method, frozen: FrozenPart) -> Optimizer:
        """Build the optimiser of a method.

        Args:
            method: the method.
            frozen: the part of its networks that does not train in the first epochs.
        Raises: UserError: if an option is not allowed, or does not fit the networks.
        """
        groups = self.learning_rates.groups(method.parameter_groups(), method.networks, frozen.parameters)
        return scale_learning_rates(self.make_optimizer(groups))


class MethodModule(TrainingModule):
    """Trains any method. The best epoch is the one with the highest top-1 accuracy of the head "main".

    Args:
        method: the method to train.
        parts: loaders, optimiser, schedule and seed.
        options: the recipe's `trainer.*`.
    """

    def __init__(self, method: Method, parts: TrainingParts, options: TrainerOptions) -> None:
        super().__init__(options, parts.seed)
        self.method = method
        self.parts = parts
        self._frozen = FrozenPart(method.networks, options)
        self._meter = StepMeter()
        self._output: StepOutput | None = None

    @property
    def trained(self) -> nn.Module:
        return self.method

    @property
    def selection_metric(self) -> SelectionMetric:
        return SelectionMetric(self.parts.selection_name, "top1")

    @property
    def steps_per_epoch(self) -> int:
        return len(self.parts.training_loader)

    def setup(self, stage: str) -> None:
        super().setup(stage)
        self.parts.training_loader.set_shard(self.global_rank, self.trainer.world_size)

    def train_dataloader(self) -> TrainingEpoch:
        self.parts.training_loader.to(self.device)
        return self.parts.training_loader.epoch(min(self.current_epoch, self.options.epochs - 1))

    def configure_optimizers(self) -> Any:
        optimizer = self.parts.optimizer(self.method, self._frozen)
        schedule = self.parts.make_schedule(optimizer, self.options.epochs, self.steps_per_epoch)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def begin_epoch(self) -> None:
        self._meter.reset()
        self._frozen.begin_epoch(self.current_epoch)
        self.method.begin_epoch(self._progress(0))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        # A compiled method may now overwrite the outputs of the last step.
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        self._output = self.method(batch, self._progress(batch_idx))
        weight = self.parts.training_loader.loss_weight(batch_idx)
        return self._output.loss if weight == 1 else self._output.loss * weight

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        assert self._output is not None
        self._meter.update(self._output, batch.labels, len(batch.images))
        super().on_train_batch_end(outputs, batch, batch_idx)
        self.method.after_step(batch, self._output)
        self._output = None

    def on_train_epoch_end(self) -> None:
        self._meter.gather()
        super().on_train_epoch_end()

    def guard(self) -> None:
        self.method.guard()  # first, because a wrong label can make the loss NaN
        self._meter.guard(self.current_epoch)

    def end_epoch(self) -> dict[str, float]:
        self.method.end_epoch(self._progress(0))
        return self._meter.compute()

    def evaluate(self) -> dict[str, Score]:
        """Scores of every head on the split that selects the best epoch.

        This runs outside Lightning's autocast, in float32, as the papers evaluate. Each process evaluates its share of
        the split. All use the running statistics of the main process, because only these are saved.
        """
        if is_distributed():
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
        return {
            f"{self.parts.selection_name}/{metric}/{head}": figure
            for head, metrics in scores.items()
            for metric, figure in metrics.items()
        }

    def prepare_cpu(self, kept_threads: int | None) -> None:
        """Choose the number of threads, and log it with a hint on the memory allocator."""
        images, backbone = self.parts.training_loader.batch_size // self.trainer.world_size, self.method.backbone
        choice = choose_threads(backbone.network, backbone.input_size, images, self.options.threads, kept_threads)
        torch.set_num_threads(choice.number)
        _log.info("CPU threads: %d (%s)", choice.number, choice.reason)
        element = torch.float32 if self.options.precision == "32" else torch.bfloat16
        hint = jemalloc_advice(max(map(math.prod, backbone.stage_shapes)) * images * element.itemsize)
        if hint is not None:
            _log.info("%s", hint)

    def too_little_memory(self, device: torch.device) -> str:
        loader = self.parts.training_loader
        same_run: list[str] = []
        if device.type == "cuda":
            same_run += ["loader.device_share=0"] if loader.device_share else []
            memories = self.method.memories.values()
            same_run += dict.fromkeys(override for memory in memories for override in memory.off_device)
        new_run = [] if loader.halved_batch_size is None else [f"loader.batch_size={loader.halved_batch_size}"]
        new_run += ["trainer.precision=bf16-mixed"] if self.options.precision == "32" else []
        sentences = [f"{device} has too little memory for this network with loader.batch_size={loader.batch_size}"]
        sentences += [f"it might continue with {' or '.join(same_run)}"] if same_run else []
        sentences += [f"a new run with {' or '.join(new_run)} might fit"] if new_run else []
        return "; ".join(sentences)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint[MEMORIES_KEY] = self.method.memories_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.method.continue_after(checkpoint["epoch"] + 1)
        self.method.load_memories_state(checkpoint[MEMORIES_KEY])

    def _progress(self, step: int) -> Progress:
        return Progress(self.current_epoch, self.options.epochs, step, self.steps_per_epoch)
