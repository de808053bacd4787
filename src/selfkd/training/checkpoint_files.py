"""Checkpoints on disk: written atomically, read without unpickling code, the history in a file of its own."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.checkpoint_io import CheckpointIO

from selfkd.atomic_files import written_whole
from selfkd.errors import CheckpointError
from selfkd.training.module import HISTORY_KEY

__all__ = ["CheckpointFiles", "read_checkpoint", "write_atomically"]

_HISTORY_FILE_KEY = "selfkd_history_file"


def write_atomically(content: Any, path: Path) -> None:
    """`torch.save`, visible under its name only once it is whole on disk.

    Raises: StorageError: if it cannot be written; nothing half-written is left.
    """
    with written_whole(path) as partial, partial.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())


class CheckpointFiles(CheckpointIO):
    """A checkpoint as two files that always belong together.

    The history is written first, under a name with its epoch; the checkpoint, which names it, replaces the old one in
    one step; then older histories go. Killed at any point, the newest checkpoint has its history.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        path = Path(path)
        checkpoint = dict(checkpoint)
        history = checkpoint.pop(HISTORY_KEY, None)
        if history is not None:
            history_file = path.with_name(f"{path.stem}-history-epoch{checkpoint['epoch']}.pt")
            write_atomically(history, history_file)
            checkpoint[_HISTORY_FILE_KEY] = history_file.name
        write_atomically(checkpoint, path)
        for old in path.parent.glob(f"{path.stem}-history-epoch*.pt"):
            if history is None or old.name != checkpoint[_HISTORY_FILE_KEY]:
                old.unlink(missing_ok=True)

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = None) -> Any:
        """The checkpoint with its history.

        Raises: CheckpointError: if a file is missing or damaged.
        """
        path = Path(path)
        checkpoint = read_checkpoint(path)
        history_file = checkpoint.pop(_HISTORY_FILE_KEY, None)
        if history_file is not None:
            checkpoint[HISTORY_KEY] = _read(path.with_name(Path(history_file).name))
        return checkpoint

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint without its history.

    Raises: CheckpointError: if the file is missing, damaged or no checkpoint of ours.
    """
    checkpoint = _read(path)
    if not isinstance(checkpoint, dict) or not {"epoch", "state_dict"} <= set(checkpoint):
        raise CheckpointError(f"{path} is not a checkpoint of a run")
    return checkpoint


def _read(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{path} is missing or damaged ({_first_line(error)}); "
            "'selfkd train' with --overwrite starts the run afresh"
        ) from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
