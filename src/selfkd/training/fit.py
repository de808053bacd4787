"""Train a training module to the end of its schedule, from the newest checkpoint on."""

from __future__ import annotations

import importlib.util
import logging
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.strategies import DDPStrategy, Strategy

from selfkd.errors import CheckpointError, MemoryExhaustedError, OptionError, SelfKDError, UserError, first_line
from selfkd.process_group import broadcast_from_main
from selfkd.signals import interrupted
from selfkd.training.checkpoint_files import (
    CheckpointFiles,
    newest_checkpoint,
    restore_best,
    write_best,
)
from selfkd.training.checkpoint_names import checkpoint_folder, epochs_in
from selfkd.training.epoch_log import EpochLog
from selfkd.training.memory import is_out_of_memory
from selfkd.training.options import TrainerOptions
from selfkd.training.processes import World, is_main_process
from selfkd.training.progress import EpochLines, RunProgressBar
from selfkd.training.training_module import TrainingModule

__all__ = ["check_hardware", "connect", "fit"]

# torch, Lightning and a memory raise these when a checkpoint has other keys, types or sizes than they need.
_CHECKPOINT_MISMATCHES = (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)

_log = logging.getLogger("selfkd")


def fit(module: TrainingModule, folder: Path, title: str, show_progress: bool = True) -> torch.device:
    """Train a module, and write its log and its checkpoints into `folder`. Continue from the newest whole checkpoint.

    Connected processes train together; only the main process writes. On a CPU torch keeps the number of threads that
    the module chose, so that the caller evaluates the network with the same number.

    Args:
        module: the training module of any task. It is trained in place, with its own options.
        folder: gets `checkpoints/` (see `CheckpointFiles`) and `metrics.csv`.
        title: the text before the progress bar or the log's lines.
        show_progress: show a progress bar; otherwise log a line per evaluated epoch.
    Returns: the device that trained.
    Raises:
        RunInterruptedError: on Ctrl-C or SIGTERM; the last checkpoint is whole.
        NonFiniteLossError: if a loss term, a weight or a logit becomes NaN or infinite; the last good
            checkpoint is kept.
        MemoryExhaustedError: if the device has too little memory.
        CheckpointError: if all checkpoints are damaged, or they belong to another method.
        StorageError: if a file cannot be written; the last checkpoint is whole.
        OptionError, UserError: if the hardware cannot do what the options ask for.
    """
    options, checkpoints = module.options, folder / "checkpoints"
    start = broadcast_from_main(lambda: _start(checkpoints))
    done = 0 if start is None else epochs_in(start)
    if done:
        _log.info("%s continues after epoch %d of %d", folder, done, options.epochs)
    saving = _Saving(checkpoints, options.checkpoint_every, done)
    progress_bars = [RunProgressBar(title)] if show_progress and is_main_process() else []
    if options.channels_last:
        # Lightning moves modules between devices but does not set their memory layout.
        module.trained.to(memory_format=torch.channels_last)
    with _quiet_lightning():
        trainer = _trainer(
            options,
            max_epochs=options.epochs,
            reload_dataloaders_every_n_epochs=1,  # every epoch has a loader of its own
            logger=_loggers(module, folder, done, None if show_progress else title) if is_main_process() else False,
            callbacks=[_KeepSignalHandler(), saving, *progress_bars],
            default_root_dir=folder,
        )
        # In every step Lightning would wait for the device and ask all processes whether a signal came. It has no
        # public option to turn that off.
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]
        if options.compile_mode is not None:
            # Compile the method alone: the logging and the hooks of Lightning's module would break the graph. Each
            # batch size gets a graph: after a short last batch torch would use a slower graph for all sizes.
            module.trained.compile(fullgraph=True, mode=options.compile_mode, dynamic=False)
        try:
            trainer.fit(module, ckpt_path=start, weights_only=True)
        except (SystemExit, Exception) as error:  # Lightning raises SystemExit after Ctrl-C
            said = f"stopped after epoch {saving.done} of {options.epochs}; the same command continues"
            stopped = interrupted(error, said)
            if stopped is not None:
                raise stopped from error
            if isinstance(error, SelfKDError):
                raise
            if is_out_of_memory(error):
                device = trainer.strategy.root_device
                raise MemoryExhaustedError(
                    f"{module.too_little_memory(device)}; {saving.done} epochs are saved"
                ) from error
            if options.compile_mode is not None and isinstance(error, _compiler_errors()):
                reason = f"torch cannot compile here; set trainer.compile=false. Its error: {first_line(error)}"
                raise OptionError("trainer.compile", options.compile, reason=reason) from error
            if start is not None and not saving.started and isinstance(error, _CHECKPOINT_MISMATCHES):
                kind, reason = type(error).__name__, first_line(error)
                said = reason if reason == kind else f"{kind}: {reason}"
                raise CheckpointError(f"{start} does not fit this run ({said})") from error
            raise
    return trainer.strategy.root_device


def _start(checkpoints: Path) -> Path | None:
    """The checkpoint to continue from, if there is one; the best epoch that it knew is restored."""
    start = newest_checkpoint(checkpoints)
    restore_best(checkpoints, start)
    return start


def connect(options: TrainerOptions) -> None:
    """Connect this process to the others of its run; a process that trains alone connects to nothing.

    Raises: OptionError, UserError: if the hardware cannot do what the options ask for.
    """
    if World.of(options).size > 1:
        with _quiet_lightning():
            _trainer(options, logger=False, enable_checkpointing=False).strategy.setup_environment()


def _compiler_errors() -> type[Exception]:
    """The base class of torch.compile's errors: a graph breaks, or there is no compiler."""
    from torch._dynamo.exc import TorchDynamoException

    return TorchDynamoException


def check_hardware(options: TrainerOptions) -> None:
    """Check now that `fit` will find the hardware and the optional packages that the options need.

    Raises: OptionError or UserError: names the options.
    """
    with _quiet_lightning():
        _trainer(options, logger=False, enable_checkpointing=False)
    if options.freeze and World.of(options).size > 1:
        reason = (
            "several processes exchange the gradients of all weights, so that none can be frozen; train in one process "
            "(trainer.devices=1 trainer.num_nodes=1), or set trainer.freeze=0"
        )
        raise OptionError("trainer.freeze", options.freeze, reason=reason)
    if "tensorboard" in options.loggers and importlib.util.find_spec("tensorboard") is None:
        reason = "tensorboard is not installed; leave it out, or install it: pip install 'selfkd[tensorboard]'"
        raise OptionError("trainer.loggers", options.loggers, reason=reason)


def _trainer(options: TrainerOptions, **arguments: Any) -> pl.Trainer:
    world = World.of(options)
    plugins: list[Any] = [CheckpointFiles()]
    if world.size > 1:
        plugins.append(world.environment)
    try:
        trainer = pl.Trainer(
            accelerator=options.accelerator,
            devices=world.devices,
            num_nodes=world.num_nodes,
            strategy=_strategy(world),
            sync_batchnorm=options.sync_batchnorm and world.size > 1,
            precision=options.precision,
            plugins=plugins,
            enable_progress_bar=False,
            enable_model_summary=False,
            **arguments,
        )
    except (MisconfigurationException, ImportError, ValueError, RuntimeError) as error:
        raise UserError(
            f"trainer.accelerator={options.accelerator!r} with trainer.precision={options.precision!r} and "
            f"trainer.devices={options.devices} cannot run on this machine: {error}"
        ) from error
    if trainer.strategy.root_device.type == "cpu":
        if options.precision == "16-mixed":
            raise OptionError("trainer.precision", options.precision, "32 or bf16-mixed on a CPU")
        if options.sync_batchnorm:
            reason = "torch can do this on GPUs only; set trainer.sync_batchnorm=false"
            raise OptionError("trainer.sync_batchnorm", True, reason=reason)
    return trainer


def _strategy(world: World) -> Strategy | str:
    if world.size == 1:
        return "auto"
    if not world.launched:
        return _StartsNothing()
    # Gradients lie in the buffers that DDP exchanges, which saves a copy of all of them.
    return DDPStrategy(gradient_as_bucket_view=True)


class _StartsNothing(DDPStrategy):
    """For a check in the process that will start the others. Lightning refuses its own launcher in a notebook."""

    @property
    def launcher(self) -> None:
        return None


def _loggers(module: TrainingModule, folder: Path, done_epochs: int, title: str | None) -> list[Logger]:
    options = module.options
    loggers: list[Logger] = [] if title is None else [EpochLines(title, module)]
    if "csv" in options.loggers:
        loggers.append(EpochLog(folder / "metrics.csv", done_epochs))
    if "tensorboard" in options.loggers:
        loggers.append(TensorBoardLogger(folder, name="", version="tensorboard"))
    return loggers


class _Saving(Checkpoint):
    """Saves the best epoch, every n-th and the last. Lightning calls it after the module has evaluated the epoch.

    Attributes:
        done: number of epochs in the newest checkpoint.
        started: whether the checkpoint is loaded and training has begun.
    """

    def __init__(self, checkpoints: Path, every: int, done: int) -> None:
        self._checkpoints = checkpoints
        self._every = every
        self.done = done
        self.started = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.started = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        done = trainer.current_epoch + 1
        if pl_module.is_best and is_main_process():
            write_best(self._checkpoints, trainer.current_epoch, pl_module.state_dict())
        if done % self._every == 0 or done == trainer.max_epochs:
            trainer.save_checkpoint(checkpoint_folder(self._checkpoints, done))
            self.done = done


class _KeepSignalHandler(pl.Callback):
    """Keeps the current handler of SIGTERM: Lightning's handler would wait for the other processes."""

    def __init__(self) -> None:
        self._handler = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._handler)


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Hide Lightning's messages, and its advice on loaders and logging, which does not apply here."""
    logs = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for category in (UserWarning, DeprecationWarning, FutureWarning):
                warnings.filterwarnings("ignore", category=category, module="pytorch_lightning")
            # A 1x1 convolution's weights in channels-last can have two kinds of strides for the same memory.
            warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
            yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)
