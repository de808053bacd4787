"""The options of the trainer, for every method."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from selfkd.backbones.staged import NUM_STAGES
from selfkd.errors import OptionError
from selfkd.option_checks import at_least, one_of

__all__ = ["MOST_THREADS", "TrainerOptions"]

MOST_THREADS = 1024
"""More than any processor has. If a system refuses to start so many, the process ends."""

_PRECISIONS = ("32", "bf16-mixed", "16-mixed")
_MODES = ("default", "reduce-overhead", "max-autotune")
_LOGGERS = ("csv", "tensorboard")
_ACCELERATOR = re.compile(r"\w{1,40}")
_MOST_EPOCHS = 1_000_000
_MOST_DEVICES = 1024  # of one machine
_MOST_NODES = 65_536


@dataclass(frozen=True, kw_only=True)
class TrainerOptions:
    """How a run trains, for every method.

    Args:
        epochs: number of passes over the training set.
        precision: number format of training: "32", "bf16-mixed" or "16-mixed" (GPU only). Losses and evaluation always
            use float32.
        accelerator: the hardware that trains: "auto", "cpu", "gpu" or another name of Lightning's.
        devices: processes per machine that train together, each with its own device. They share every batch, so
            loader.batch_size is the size for all of them together. Leave it out under torchrun or srun.
        threads: number of CPU threads of each process. By default one thread for every 2 billion multiply-adds in the
            forward pass of a batch, at most one per core, or OMP_NUM_THREADS if it is set. A continued run keeps its
            number, because another number changes the last digits of the results.
        num_nodes: machines that train together. torchrun or srun must start the processes on each of them.
        sync_batchnorm: let batch normalisation use the batch of all processes (GPU only). By default each process uses
            its own share.
        channels_last: keep images and weights in channels-last layout, which is faster on most hardware. Networks that
            would get wrong gradients on a CPU keep the usual layout.
        evaluate_every: epochs between evaluations. Only an evaluated epoch can be the best.
        best_after_epoch: the best epoch is chosen among those after this one, as some papers do; 0 for all epochs.
        loggers: where the values of each epoch are written: "csv" (metrics.csv) and "tensorboard" (needs the extra
            `tensorboard`).
        compile: compile the method's forward and backward pass with torch.compile: true, or one of its modes (default,
            reduce-overhead, max-autotune). This takes about a minute at the start.
        checkpoint_every: epochs between checkpoints, from which an interrupted run continues. The last epoch always
            has one.
        guard_every: steps between checks for NaN, infinity and wrong labels. Each check waits for the device.
        freeze: the part of the network whose weights stay as they are: 0 for none, 1 to 4 for the layers before the
            first stage and so many stages, "backbone" for all but the classifier. The frozen part computes as in an
            evaluation: its batch normalisation does not change. What the method adds always trains.
        freeze_epochs: number of epochs at the beginning in which the part is frozen; then it trains, too. None for all
            epochs. It needs `freeze`.
    Raises: OptionError: if a value is out of range.
    """

    epochs: int = 200
    precision: Literal["32", "bf16-mixed", "16-mixed"] = "32"
    accelerator: str = "auto"
    devices: int = 1
    threads: int | None = None
    num_nodes: int = 1
    sync_batchnorm: bool = False
    channels_last: bool = True
    evaluate_every: int = 1
    best_after_epoch: int = 0
    loggers: tuple[Literal["csv", "tensorboard"], ...] = ("csv",)
    compile: bool | Literal["default", "reduce-overhead", "max-autotune"] = False
    checkpoint_every: int = 1
    guard_every: int = 100
    freeze: int | Literal["backbone"] = 0
    freeze_epochs: int | None = None

    def __post_init__(self) -> None:
        at_least("trainer.epochs", self.epochs, 1, _MOST_EPOCHS)
        one_of("trainer.precision", self.precision, _PRECISIONS)
        if not _ACCELERATOR.fullmatch(self.accelerator):
            raise OptionError(
                "trainer.accelerator", self.accelerator, "a name that Lightning knows: auto, cpu, gpu, ..."
            )
        at_least("trainer.devices", self.devices, 1, _MOST_DEVICES)
        if self.threads is not None:
            at_least("trainer.threads", self.threads, 1, MOST_THREADS)
        at_least("trainer.num_nodes", self.num_nodes, 1, _MOST_NODES)
        at_least("trainer.evaluate_every", self.evaluate_every, 1)
        at_least("trainer.best_after_epoch", self.best_after_epoch, 0)
        if not isinstance(self.compile, bool):
            one_of("trainer.compile", self.compile, _MODES)
        at_least("trainer.checkpoint_every", self.checkpoint_every, 1)
        at_least("trainer.guard_every", self.guard_every, 1)
        if self.freeze != "backbone" and (type(self.freeze) is not int or not 0 <= self.freeze <= NUM_STAGES):
            raise OptionError("trainer.freeze", self.freeze, f"from 0 to {NUM_STAGES}, or backbone")
        if self.freeze_epochs is not None:
            at_least("trainer.freeze_epochs", self.freeze_epochs, 1)
            if self.freeze == 0:
                reason = "no part is frozen; set trainer.freeze, too, or leave trainer.freeze_epochs out"
                raise OptionError("trainer.freeze_epochs", self.freeze_epochs, reason=reason)
        for logger in self.loggers:
            one_of("trainer.loggers", logger, _LOGGERS)

    @property
    def compile_mode(self) -> str | None:
        """The mode of torch.compile; None to leave the method as it is."""
        return "default" if self.compile is True else self.compile or None
