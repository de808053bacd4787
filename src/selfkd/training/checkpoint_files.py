"""The checkpoints of a run: the one to continue from, and those that are kept."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning_fabric.plugins.io.checkpoint_io import CheckpointIO
from torch import Tensor

from selfkd.atomic_files import folder_written_whole, remove, written_whole
from selfkd.errors import CheckpointError, RunError
from selfkd.training.checkpoint_content import (
    BEST_FILE,
    START_AFRESH,
    TRAINING_FILE,
    changed_file,
    damage_for_training,
    damage_of_weights,
    link_or_copy,
    read_checkpoint,
    write_checkpoint,
    write_tensors,
)
from selfkd.training.checkpoint_names import CHECKSUMS_FILE, checkpoints_in, epochs_in, is_checkpoint_name

__all__ = [
    "CheckpointFiles",
    "epochs_done",
    "keep_newest",
    "newest_checkpoint",
    "restore_best",
    "weights_file",
    "write_best",
]

_KEPT = 2

_log = logging.getLogger("selfkd")


class CheckpointFiles(CheckpointIO):
    """Writes and reads checkpoints for Lightning. Each is a folder `epoch-000012` with

    - `training.ckpt`: weights, optimiser, schedule, and the number of epochs done;
    - `history.pt`: the predictions of that epoch, if the method has a history; `memory-<name>.pt`: each other memory of
      the method;
    - `best.ckpt`: the weights of the best epoch so far;
    - `checksums.json`: the size and CRC-32 of each of these files.

    A checkpoint is written under another name and renamed in one step when all of it is on disk. The one before it is
    kept. Nothing is held in memory twice: torch writes each tensor from its own memory.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises: StorageError: if it cannot be written; older checkpoints stay.
        """
        path = Path(path)
        with folder_written_whole(path) as partial:
            write_checkpoint(checkpoint, path.parent / BEST_FILE, partial)
        for later in checkpoints_in(path.parent):  # it was damaged, and the run went back to one before it
            if epochs_in(later) > epochs_in(path):
                _remove(later)
        keep_newest(path.parent, _KEPT)

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = None) -> Any:
        """The checkpoint that `save_checkpoint` was given.

        Raises: CheckpointError: if a file is missing or damaged.
        """
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: str | Path) -> None:
        _remove(Path(path))


def newest_checkpoint(checkpoints: Path) -> Path | None:
    """The newest checkpoint from which a training can continue, or None if there is none; a warning names damaged ones.

    Raises:
        CheckpointError: if there are checkpoints, but all are damaged.
        MemoryExhaustedError: if there is too little memory to read one; it is not taken for damaged.
    """
    return _newest(checkpoints, lambda path: damage_for_training(path, epochs_in(path)))


def epochs_done(checkpoints: Path) -> int:
    """Epochs of the newest checkpoint whose files have their checksums; 0 if there is none."""
    return next((epochs_in(path) for path in checkpoints_in(checkpoints) if changed_file(path) is None), 0)


def weights_file(checkpoints: Path, which: str) -> Path:
    """The file with the weights of the "last" or the "best" epoch, in the newest checkpoint that has it whole.

    Other damage in a checkpoint, such as to the history of predictions, does not matter for weights.

    Raises:
        CheckpointError: if there is no undamaged one.
        MemoryExhaustedError: if there is too little memory to read one; it is not taken for damaged.
        RunError: if there is no best epoch yet.
    """
    name = {"last": TRAINING_FILE, "best": BEST_FILE}[which]
    newest = _newest(checkpoints, lambda path: damage_of_weights(path, name))
    if newest is None:
        raise CheckpointError(f"{checkpoints} holds no checkpoint; {START_AFRESH}")
    if not (newest / name).exists():
        raise RunError(f"{newest} holds no best epoch")
    return newest / name


def write_best(checkpoints: Path, epoch: int, weights: dict[str, Tensor]) -> None:
    """Write the weights of the best epoch so far, counted from 0; the next checkpoint gets a copy.

    Raises: StorageError: if they cannot be written; those of the epoch that was best before stay.
    """
    with written_whole(checkpoints / BEST_FILE) as partial:
        write_tensors({"epoch": epoch, "state_dict": weights}, partial)


def restore_best(checkpoints: Path, start: Path | None) -> None:
    """Put back the best epoch of the checkpoint from which the run continues; None for a fresh start.

    Raises:
        CheckpointError: if there is a folder of that name.
        StorageError: if it cannot be written.
    """
    best = checkpoints / BEST_FILE
    if best.is_dir():
        raise CheckpointError(f"{best} is a folder where a file should be; remove it to continue")
    if start is None or not (start / BEST_FILE).exists():
        best.unlink(missing_ok=True)
    elif not best.exists() or not best.samefile(start / BEST_FILE):  # a file cannot be renamed to its second name
        with written_whole(best) as partial:
            link_or_copy(start / BEST_FILE, partial)


def keep_newest(checkpoints: Path, number: int) -> None:
    """Remove all but the newest checkpoints, and the partial one of a killed process."""
    kept = checkpoints_in(checkpoints)[:number]
    for path in [*checkpoints.iterdir()] if checkpoints.is_dir() else []:
        if is_checkpoint_name(path.name.removesuffix(".partial")) and path not in kept:
            _remove(path)


def _newest(checkpoints: Path, damage_of: Callable[[Path], str | None]) -> Path | None:
    """The newest undamaged checkpoint, or None if there are no checkpoints; a warning names the damage of newer ones.

    Raises: CheckpointError: if all are damaged.
    """
    damages: list[str] = []
    candidates = checkpoints_in(checkpoints)
    for candidate in candidates:
        damage = damage_of(candidate)
        if damage is None:
            if damages:
                said = "; ".join(damages)
                _log.warning("%s; going back to the checkpoint after epoch %d", said, epochs_in(candidate))
            return candidate
        damages.append(damage)
    if candidates != checkpoints_in(checkpoints):  # a running training has replaced them meanwhile
        return _newest(checkpoints, damage_of)
    if damages:
        raise CheckpointError(f"{'; '.join(damages)}; no whole checkpoint is left; {START_AFRESH}")
    return None


def _remove(path: Path) -> None:
    with suppress(OSError):  # a leftover does no harm
        if path.is_dir():
            remove(path / CHECKSUMS_FILE)  # first: without it the rest is no checkpoint, and not a damaged one
        remove(path)
