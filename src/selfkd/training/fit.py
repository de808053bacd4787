"""Train a method to the end of its schedule, from wherever its checkpoint stands."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.loggers.logger import Logger
from torch import Tensor

from selfkd.errors import CheckpointError, OptionError, RunInterruptedError, UserError
from selfkd.methods.base import Method
from selfkd.training.checkpoint_files import CheckpointFiles, read_checkpoint
from selfkd.training.epoch_log import EpochLog
from selfkd.training.module import MethodModule, TrainingParts
from selfkd.training.options import TrainerOptions
from selfkd.training.progress import RunProgressBar

__all__ = ["BEST", "LAST", "check_hardware", "epochs_done", "fit", "load_weights", "read_weights"]

LAST, BEST = "last.ckpt", "best.ckpt"


def fit(
    method: Method, parts: TrainingParts, options: TrainerOptions, folder: Path, title: str, show_progress: bool = True
) -> torch.device:
    """Train, logging and saving into `folder`; continue if it holds a checkpoint.

    Args:
        method: trained in place.
        parts: loaders, optimiser, schedule, seed.
        options: of the run.
        folder: gets `checkpoints/last.ckpt` (resumable), `checkpoints/best.ckpt` (weights), `metrics.csv`.
        title: for the progress bar.
        show_progress: whether there is a progress bar.
    Returns: the device that trained.
    Raises:
        RunInterruptedError: on Ctrl-C; the last finished epoch is saved.
        NonFiniteLossError: if a loss term becomes NaN or infinite; the last good checkpoint is kept.
        CheckpointError: if the checkpoint is damaged or belongs to another method.
        StorageError: if something cannot be written; the last checkpoint is whole.
        OptionError, UserError: if the hardware cannot do what the options ask for.
    """
    checkpoints = folder / "checkpoints"
    last = checkpoints / LAST
    done_epochs = epochs_done(last)
    module = MethodModule(method, parts, options, checkpoints / BEST)
    if options.channels_last:
        # Lightning moves modules between devices but knows no memory layouts.
        method.to(memory_format=torch.channels_last)
    with _quiet_lightning():
        trainer = _trainer(
            options,
            max_epochs=options.epochs,
            reload_dataloaders_every_n_epochs=1,  # every epoch has its own loader, which names it
            logger=_loggers(options, folder, done_epochs),
            callbacks=_callbacks(checkpoints, options, title, show_progress),
            plugins=[CheckpointFiles()],
            default_root_dir=folder,
        )
        if options.compile_mode is not None:
            # The method alone, not Lightning's module around it, whose logging and hooks would break the graph.
            method.compile(fullgraph=True, mode=options.compile_mode)
        try:
            trainer.fit(module, ckpt_path=last if last.exists() else None, weights_only=True)
        except (SystemExit, Exception) as error:
            if isinstance(error, SystemExit) or _hides_interrupt(error):  # SystemExit is Lightning's end after Ctrl-C
                raise RunInterruptedError(
                    f"stopped after epoch {epochs_done(last)} of {options.epochs}; the same command continues"
                ) from error
            if options.compile_mode is not None and _comes_from_the_compiler(error):
                reason = str(error).strip().partition("\n")[0]
                raise OptionError("trainer.compile", options.compile, f"false here: {reason}") from error
            if isinstance(error, KeyError | RuntimeError | ValueError) and trainer.global_step == 0 and last.exists():
                raise CheckpointError(f"{last} does not fit this run: {error}") from error
            raise
    return trainer.strategy.root_device


def _hides_interrupt(error: BaseException) -> bool:
    """Whether an error only followed from Ctrl-C, as one of torch's file writer does that was broken off."""
    cause = error.__cause__ or error.__context__
    return cause is not None and (isinstance(cause, KeyboardInterrupt) or _hides_interrupt(cause))


def _comes_from_the_compiler(error: BaseException) -> bool:
    """Whether torch could not compile: a graph that breaks, a compiler that is missing."""
    from torch._dynamo.exc import TorchDynamoException

    return isinstance(error, TorchDynamoException)


def check_hardware(options: TrainerOptions) -> None:
    """Raise now what `fit` would raise for want of hardware or of an optional package.

    Raises: OptionError or UserError: naming the options.
    """
    with _quiet_lightning():
        _trainer(options, logger=False, enable_checkpointing=False)
    if "tensorboard" in options.loggers and importlib.util.find_spec("tensorboard") is None:
        raise OptionError(
            "trainer.loggers", options.loggers, "without tensorboard, or after pip install 'selfkd[tensorboard]'"
        )


def _trainer(options: TrainerOptions, **arguments: Any) -> pl.Trainer:
    try:
        trainer = pl.Trainer(
            accelerator=options.accelerator,
            devices=1,
            precision=options.precision,
            enable_progress_bar=False,
            enable_model_summary=False,
            **arguments,
        )
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise UserError(
            f"trainer.accelerator={options.accelerator!r} with trainer.precision={options.precision!r} "
            f"cannot run on this machine: {error}"
        ) from error
    if options.precision == "16-mixed" and trainer.strategy.root_device.type == "cpu":
        raise OptionError("trainer.precision", options.precision, "32 or bf16-mixed on a CPU")
    return trainer


def read_weights(checkpoint: Path, prefix: str = "") -> dict[str, Tensor]:
    """A checkpoint's weights of the method, or of the part of it below `prefix`, under the part's own keys.

    Raises: CheckpointError: if the file is missing, damaged or no checkpoint of ours.
    """
    prefix = "method." + prefix
    state = read_checkpoint(checkpoint)["state_dict"]
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def load_weights(method: Method, checkpoint: Path) -> None:
    """Load a checkpoint's weights into a method, strictly.

    Raises: CheckpointError: if the file is damaged or belongs to another method.
    """
    try:
        method.load_state_dict(read_weights(checkpoint))
    except RuntimeError as error:
        raise CheckpointError(f"{checkpoint} does not fit {type(method).__name__}: {error}") from error


def epochs_done(checkpoint: Path) -> int:
    """Epochs that a checkpoint holds, 0 if there is none.

    Raises: CheckpointError: if the file is damaged.
    """
    return int(read_checkpoint(checkpoint)["epoch"]) + 1 if checkpoint.exists() else 0


def _loggers(options: TrainerOptions, folder: Path, done_epochs: int) -> list[Logger]:
    loggers: list[Logger] = []
    if "csv" in options.loggers:
        loggers.append(EpochLog(folder / "metrics.csv", done_epochs))
    if "tensorboard" in options.loggers:
        loggers.append(TensorBoardLogger(folder, name="", version="tensorboard"))
    return loggers


class _LastCheckpoint(ModelCheckpoint):
    """Keeps the newest of every so many epochs, and the last of all.

    The module itself keeps the best epoch, whose rule differs from paper to paper.
    """

    def __init__(self, folder: Path, every: int) -> None:
        super().__init__(folder, filename=Path(LAST).stem, save_on_train_epoch_end=True, enable_version_counter=False)
        self._every = every

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        done = trainer.current_epoch + 1
        if done % self._every == 0 or done == trainer.max_epochs:
            super().on_train_epoch_end(trainer, pl_module)


def _callbacks(checkpoints: Path, options: TrainerOptions, title: str, show_progress: bool) -> list[pl.Callback]:
    last = _LastCheckpoint(checkpoints, options.checkpoint_every)
    return [last, RunProgressBar(title)] if show_progress else [last]


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Without Lightning's announcements and its advice on loaders and logging, which does not apply to ours."""
    log = logging.getLogger("pytorch_lightning")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=UserWarning, module="pytorch_lightning")
            warnings.filterwarnings("ignore", category=DeprecationWarning, module="pytorch_lightning")
            warnings.filterwarnings("ignore", category=FutureWarning, module="pytorch_lightning")
            yield
    finally:
        log.setLevel(level)
