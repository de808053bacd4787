"""Checkpoints on disk: folders written atomically, checked when read, and read without unpickling code."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import torch
from lightning_fabric.plugins.io.checkpoint_io import CheckpointIO
from torch import Tensor, nn

from selfkd.atomic_files import folder_written_whole, remove, written_whole
from selfkd.errors import CheckpointError, MemoryExhaustedError, RunError, first_line
from selfkd.given_paths import check_path
from selfkd.json_text import to_json
from selfkd.memories.base import MEMORY_NAME, check_memory_name
from selfkd.training.memory import is_out_of_memory, memory_for
from selfkd.training.options import MOST_THREADS

__all__ = [
    "BEST_KEY",
    "MEMORIES_KEY",
    "PROCESSES_KEY",
    "STEPS_KEY",
    "THREADS_KEY",
    "CheckpointFiles",
    "checkpoint_folder",
    "checksum",
    "epochs_done",
    "epochs_in",
    "has_checkpoints",
    "is_checkpoint_file",
    "is_checkpoint_name",
    "keep_newest",
    "load_weights",
    "newest_checkpoint",
    "read_checkpoint",
    "read_weights",
    "restore_best",
    "weights_file",
    "write_best",
]

BEST_KEY = "selfkd_best"
MEMORIES_KEY = "selfkd_memories"
PROCESSES_KEY = "selfkd_processes"
STEPS_KEY = "selfkd_steps_per_epoch"
THREADS_KEY = "selfkd_threads"

_TRAINING, _BEST, _CHECKSUMS = "training.ckpt", "best.ckpt", "checksums.json"
_HISTORY = "history"  # the memory that had a file before there were others
_MEMORY = re.compile(rf"{_HISTORY}\.pt|memory-({MEMORY_NAME})\.pt")


def _mappings(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)


def _count(value: Any) -> bool:
    return type(value) is int and value >= 1


# What a training continues with, beside its weights: a key, and whether its value can be used. Older checkpoints lack
# the number of threads.
_CONTINUED: Mapping[str, Callable[[Any], bool]] = {
    "optimizer_states": _mappings,
    "lr_schedulers": _mappings,
    "loops": lambda value: isinstance(value, dict) and bool(value),
    BEST_KEY: lambda value: isinstance(value, float),
    PROCESSES_KEY: _count,
    STEPS_KEY: _count,
    THREADS_KEY: lambda value: value is None or (_count(value) and value <= MOST_THREADS),
    "callbacks": lambda value: isinstance(value, dict),
}
_FOLDER = re.compile(r"epoch-(\d{6,18})")
_KEPT = 2
_PIECE = 1 << 20
_ADVICE = "'selfkd train' with --overwrite starts the run afresh"
_NEEDS_MEMORY = "no checkpoint was removed; close other programs, or do it where there is more"

_log = logging.getLogger("selfkd")


class CheckpointFiles(CheckpointIO):
    """Writes and reads checkpoints for Lightning. Each is a folder `epoch-000012` with

    - `training.ckpt`: weights, optimiser, schedule, how far the run is;
    - `history.pt`: the predictions of that epoch, for methods with a history; `memory-<name>.pt`: each other memory of
      the method;
    - `best.ckpt`: the weights of the best epoch until then;
    - `checksums.json`: size and CRC-32 of each of them.

    A checkpoint is written beside its place and moved there in one step, once all of it is on disk. The one before it
    stays.
    Nothing is held in memory twice: torch writes each tensor from where it lies.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises: StorageError: if it cannot be written; older checkpoints stay.
        """
        path = Path(path)
        training = dict(checkpoint)
        memories = training.pop(MEMORIES_KEY, {})
        with folder_written_whole(path) as partial:
            _write(training, partial / _TRAINING)
            for name, state in memories.items():
                _write(state, _memory_file(partial, name))
            best = path.parent / _BEST
            if best.exists():
                _link(best, partial / _BEST)
            sums = {file.name: checksum(file) for file in sorted(partial.iterdir())}
            with (partial / _CHECKSUMS).open("w", encoding="utf-8") as file:
                file.write(to_json(sums))
                _onto_disk(file)
        # A checkpoint of a later epoch was damaged: the run went back to one before it.
        for abandoned in _checkpoints(path.parent):
            if epochs_in(abandoned) > epochs_in(path):
                _remove(abandoned)
        keep_newest(path.parent, _KEPT)

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = None) -> Any:
        """What `save_checkpoint` was given.

        Raises: CheckpointError: if a file is missing or damaged.
        """
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: str | Path) -> None:
        _remove(Path(path))


def checkpoint_folder(checkpoints: Path, done: int) -> Path:
    """The folder of the checkpoint after so many epochs."""
    return checkpoints / f"epoch-{done:06d}"


def is_checkpoint_name(name: str) -> bool:
    """Whether a folder has the name of a checkpoint."""
    return _FOLDER.fullmatch(name) is not None


def newest_checkpoint(checkpoints: Path) -> Path | None:
    """The newest checkpoint from which a training can continue, or None; a warning names damaged ones.

    Raises:
        CheckpointError: if there are checkpoints, but all are damaged.
        MemoryExhaustedError: if there is too little memory to read; no checkpoint is passed over for that.
    """
    return _newest(checkpoints, _damage)


def is_checkpoint_file(name: str) -> bool:
    """Whether a file has the name of a file in a checkpoint."""
    return name in (_TRAINING, _BEST, _CHECKSUMS) or _MEMORY.fullmatch(name) is not None


def epochs_done(checkpoints: Path) -> int:
    """Epochs of the newest checkpoint whose files have their checksums; 0 if there is none."""
    return next((epochs_in(path) for path in _checkpoints(checkpoints) if _changed_file(path) is None), 0)


def has_checkpoints(checkpoints: Path) -> bool:
    """Whether there is any checkpoint, whole or not."""
    return bool(_checkpoints(checkpoints))


def epochs_in(path: Path) -> int:
    """The number of epochs in a checkpoint's name."""
    found = _FOLDER.fullmatch(path.name)
    assert found is not None
    return int(found[1])


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A whole checkpoint, as `save_checkpoint` got it; its tensors are mapped, not yet in memory.

    Raises:
        CheckpointError: if a file is missing or damaged.
        MemoryExhaustedError: if there is too little memory.
    """
    damage = _changed_file(path)
    if damage is not None:
        raise CheckpointError(f"{damage}; {_ADVICE}")
    checkpoint = _checkpoint(path / _TRAINING)
    found = [(_MEMORY.fullmatch(file.name), file) for file in path.iterdir()]
    checkpoint[MEMORIES_KEY] = {match[1] or _HISTORY: _read(file) for match, file in found if match is not None}
    return checkpoint


def write_best(checkpoints: Path, epoch: int, weights: dict[str, Tensor]) -> None:
    """Keep the weights of the best epoch so far, counted from 0; the next checkpoint gets a copy.

    Raises: StorageError: if they cannot be written; the best before stays.
    """
    with written_whole(checkpoints / _BEST) as partial:
        _write({"epoch": epoch, "state_dict": weights}, partial)


def restore_best(checkpoints: Path, start: Path | None) -> None:
    """Put back the best epoch of the checkpoint from which the run continues; None for a fresh start.

    Raises:
        CheckpointError: if a folder is in its place.
        StorageError: if it cannot be written.
    """
    best = checkpoints / _BEST
    if best.is_dir():
        raise CheckpointError(f"{best} is a folder where a file should be; remove it to continue")
    if start is None or not (start / _BEST).exists():
        best.unlink(missing_ok=True)
    elif not best.exists() or not best.samefile(start / _BEST):  # renaming a file to another name of it does nothing
        with written_whole(best) as partial:
            _link(start / _BEST, partial)


def weights_file(checkpoints: Path, which: str) -> Path:
    """The file with the weights of the "last" or the "best" epoch, in the newest checkpoint that has it whole.

    Other damage in a checkpoint, such as to the history of predictions, does not matter for weights.

    Raises:
        CheckpointError: if there is no whole one.
        MemoryExhaustedError: if there is too little memory to read; no checkpoint is passed over for that.
        RunError: if no epoch that counts as the best has been evaluated yet.
    """
    name = {"last": _TRAINING, "best": _BEST}[which]
    newest = _newest(checkpoints, lambda path: _damage_of_weights(path, name))
    if newest is None:
        raise CheckpointError(f"{checkpoints} holds no checkpoint; {_ADVICE}")
    if not (newest / name).exists():
        raise RunError(f"{newest} holds no best epoch")
    return newest / name


def read_weights(file: Path, prefix: str = "") -> tuple[dict[str, Tensor], int]:
    """The weights of what was trained, or of its part below `prefix` under the part's own keys, and their epoch from 1.

    Raises:
        CheckpointError: if the file is missing, damaged or no checkpoint of ours.
        MemoryExhaustedError: if there is too little memory.
    """
    checkpoint = _checkpoint(file)
    state = checkpoint["state_dict"]
    weights = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    return weights, int(checkpoint["epoch"]) + 1


def load_weights(part: nn.Module, file: Path, prefix: str = "") -> int:
    """Load the weights below `prefix` into the part that they are of, strictly. Returns their epoch, counted from 1.

    Raises:
        CheckpointError: if the file is damaged or belongs to something else.
        MemoryExhaustedError: if there is too little memory.
    """
    weights, epoch = read_weights(file, prefix)
    try:
        part.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{file} does not fit {type(part).__name__}: {error}") from error
    return epoch


def keep_newest(checkpoints: Path, number: int) -> None:
    """Remove all but the newest checkpoints, and the partial ones of a killed process."""
    kept = _checkpoints(checkpoints)[:number]
    for path in [*checkpoints.iterdir()] if checkpoints.is_dir() else []:
        if _FOLDER.fullmatch(path.name.removesuffix(".partial")) and path not in kept:
            _remove(path)


def _checkpoints(checkpoints: Path) -> list[Path]:
    """Newest first. A folder without checksums is one whose removal was broken off."""
    if not checkpoints.is_dir():
        return []
    found = [path for path in checkpoints.iterdir() if _FOLDER.fullmatch(path.name) and (path / _CHECKSUMS).exists()]
    return sorted(found, key=epochs_in, reverse=True)


def _newest(checkpoints: Path, damage_of: Callable[[Path], str | None]) -> Path | None:
    """The newest checkpoint that is not damaged, or None where there is none; a warning names the damage of others.

    Raises: CheckpointError: if each is damaged.
    """
    damages: list[str] = []
    candidates = _checkpoints(checkpoints)
    for candidate in candidates:
        damage = damage_of(candidate)
        if damage is None:
            if damages:
                said = "; ".join(damages)
                _log.warning("%s; going back to the checkpoint after epoch %d", said, epochs_in(candidate))
            return candidate
        damages.append(damage)
    if candidates != _checkpoints(checkpoints):  # a training that goes on has replaced them meanwhile
        return _newest(checkpoints, damage_of)
    if damages:
        raise CheckpointError(f"{'; '.join(damages)}; no whole checkpoint is left; {_ADVICE}")
    return None


def _remove(path: Path) -> None:
    with suppress(OSError):  # what cannot be removed is in nobody's way
        if path.is_dir():
            remove(path / _CHECKSUMS)  # first, so that nobody takes the rest for a damaged checkpoint
        remove(path)


def _damage(path: Path) -> str | None:
    """Why a training cannot continue from a checkpoint, in words, or None."""
    damage = _changed_file(path) or _damage_of_weights(path, _TRAINING)
    if damage is not None:
        return damage
    training = _checkpoint(path / _TRAINING)
    unusable = [key for key, is_usable in _CONTINUED.items() if not is_usable(training.get(key))]
    if unusable:
        return f"{path / _TRAINING} holds no usable {', '.join(unusable)}"
    if training["epoch"] + 1 != epochs_in(path):
        return f"{path / _TRAINING} is of epoch {training['epoch'] + 1}"
    return None


def _damage_of_weights(path: Path, name: str) -> str | None:
    """Why this file of a checkpoint gives no weights, in words, or None."""
    damage = _changed_file(path, name)
    if damage is not None or not (path / name).exists():
        return damage
    try:
        _checkpoint(path / name)
    except CheckpointError as error:
        return str(error)
    return None


def _memory_file(path: Path, name: str) -> Path:
    """The file of a memory in a checkpoint."""
    check_memory_name(name)
    return path / (f"{name}.pt" if name == _HISTORY else f"memory-{name}.pt")


def _changed_file(path: Path, only: str | None = None) -> str | None:
    """Which file of a checkpoint has another checksum, in words, or None; with `only`, just this file is checked."""
    noted = path / _CHECKSUMS
    try:
        with memory_for(f"reading {path}", _NEEDS_MEMORY):
            sums = json.loads(noted.read_text(encoding="utf-8")) if noted.is_file() else None
            if not isinstance(sums, dict) or _TRAINING not in sums:
                return f"{noted} is damaged"
            for name in sums if only is None else {only} & set(sums):
                file = path / Path(name).name
                if not file.is_file():
                    return f"{file} is missing"
                if checksum(file) != sums[name]:
                    return f"{file} is damaged"
    except (OSError, ValueError, RecursionError) as error:
        return f"{path} cannot be read ({first_line(error)})"
    return None


def checksum(file: Path) -> dict[str, int]:
    """Size and CRC-32 of a file.

    Raises: OSError: if it cannot be read.
    """
    crc = 0
    with file.open("rb") as opened:
        while piece := opened.read(_PIECE):
            crc = zlib.crc32(piece, crc)
    return {"bytes": file.stat().st_size, "crc32": crc}


def _write(content: Any, path: Path) -> None:
    with path.open("xb") as file:  # never into a file that has another name in a checkpoint
        try:
            torch.save(content, file)
        except RuntimeError as error:  # its writer's own, where the disk is full
            if is_out_of_memory(error):
                raise
            raise OSError(str(error)) from error
        _onto_disk(file)


def _onto_disk(file: IO[Any]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _link(file: Path, name: Path) -> None:
    """The same file under another name; a copy where the file system knows no links. Both are only ever replaced."""
    try:
        name.hardlink_to(file)
    except OSError:
        with file.open("rb") as source, name.open("xb") as copy:
            shutil.copyfileobj(source, copy)
            _onto_disk(copy)


def _checkpoint(file: Path) -> dict[str, Any]:
    """What a file holds: weights under their keys, their epoch counted from 0, and more.

    Raises: CheckpointError: if it is missing, damaged or no checkpoint of ours.
    """
    checkpoint = _read(file)
    if not isinstance(checkpoint, dict):
        raise CheckpointError(f"{file} is not a checkpoint of a run")
    epoch, weights = checkpoint.get("epoch"), checkpoint.get("state_dict")
    if type(epoch) is not int or epoch < 0 or not isinstance(weights, dict) or not all(map(_is_text, weights)):
        raise CheckpointError(f"{file} is not a checkpoint of a run")
    return checkpoint


def _is_text(key: object) -> bool:
    return isinstance(key, str)


def _read(path: Path) -> Any:
    check_path(path)
    try:
        with memory_for(f"reading {path}", _NEEDS_MEMORY):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except MemoryExhaustedError:  # which says nothing against the file
        raise
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({first_line(error)})") from error
    except Exception as error:  # torch's reader fails in any way on a file that was made up, and advises to trust it
        raise CheckpointError(f"{path} is damaged or holds more than numbers, texts and tensors") from error
