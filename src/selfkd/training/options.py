"""How long and how a run trains, whatever the method."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from selfkd.errors import OptionError
from selfkd.option_checks import at_least, one_of

__all__ = ["MOST_THREADS", "TrainerOptions"]

MOST_THREADS = 1024
"""More than any processor has; a system may refuse to start so many, which ends the process."""

_PRECISIONS = ("32", "bf16-mixed", "16-mixed")
_MODES = ("default", "reduce-overhead", "max-autotune")
_LOGGERS = ("csv", "tensorboard")
_ACCELERATOR = re.compile(r"\w{1,40}")
_MOST_EPOCHS = 1_000_000
_MOST_DEVICES = 1024  # of one machine
_MOST_NODES = 65_536


@dataclass(frozen=True, kw_only=True)
class TrainerOptions:
    """The run itself.

    Args:
        epochs: passes over the training set.
        precision: "32", "bf16-mixed" or "16-mixed" (GPU only); losses and evaluation are in float32 in any case.
        accelerator: "auto", "cpu", "gpu", ... as Lightning names them.
        devices: processes that train together on each machine, each with a device of its own; they share out every
            batch, so that loader.batch_size stays the size of all together. Under torchrun or srun it may be left out.
        threads: threads that compute on a CPU, in each process; null for one for every 2 billion multiply-adds in the
            forward pass of a batch, at most one per core, or as many as OMP_NUM_THREADS says. An interrupted run goes
            on with the number it has, since another one changes the last digits of results.
        num_nodes: machines, each of them started by torchrun or srun.
        sync_batchnorm: let batch normalisation see the batches of all processes (GPU only); else each sees its own
            share, as is usual.
        channels_last: keep images and weights in channels-last layout, faster on most hardware; not done for
            networks of which a CPU would get wrong gradients in it.
        evaluate_every: epochs between evaluations; only evaluated epochs can be the best.
        best_after_epoch: the best epoch is sought after this many epochs, as some papers do; 0 for all.
        loggers: "csv" (metrics.csv) and "tensorboard" (needs the extra `tensorboard`).
        compile: compile the method's forward and backward pass with torch.compile (true, or one of its modes: default,
            reduce-overhead, max-autotune); costs a minute or so at the start.
        checkpoint_every: epochs between checkpoints from which an interrupted run continues; the last epoch always has
            one. Writing one of ResNet-18 with DTSKD's history on CIFAR-100 takes a fraction of a second.
        guard_every: steps between looks for NaN, infinity and wrong labels, each of which waits for the device.
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

    def __post_init__(self) -> None:
        at_least("trainer.epochs", self.epochs, 1, _MOST_EPOCHS)
        one_of("trainer.precision", self.precision, _PRECISIONS)
        if not _ACCELERATOR.fullmatch(self.accelerator):
            raise OptionError(
                "trainer.accelerator", self.accelerator, "a name as Lightning has them: auto, cpu, gpu, ..."
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
        for logger in self.loggers:
            one_of("trainer.loggers", logger, _LOGGERS)

    @property
    def compile_mode(self) -> str | None:
        """The mode of torch.compile; None to leave the method as it is."""
        return "default" if self.compile is True else self.compile or None
