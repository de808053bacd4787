"""The files of one checkpoint: written, checked by their checksums, and read without unpickling code."""

from __future__ import annotations

import json
import os
import re
import shutil
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

from selfkd.errors import CheckpointError, MemoryExhaustedError, first_line
from selfkd.given_paths import check_path
from selfkd.json_text import to_json
from selfkd.memories.base import MEMORY_NAME, check_memory_name
from selfkd.training.checkpoint_names import CHECKSUMS_FILE
from selfkd.training.memory import is_out_of_memory, memory_for
from selfkd.training.options import MOST_THREADS

__all__ = [
    "BEST_FILE",
    "BEST_KEY",
    "MEMORIES_KEY",
    "PROCESSES_KEY",
    "START_AFRESH",
    "STEPS_KEY",
    "THREADS_KEY",
    "TRAINING_FILE",
    "changed_file",
    "checksum",
    "damage_for_training",
    "damage_of_weights",
    "is_checkpoint_file",
    "link_or_copy",
    "load_weights",
    "read_checkpoint",
    "read_weights",
    "write_checkpoint",
    "write_tensors",
]

BEST_KEY = "selfkd_best"
MEMORIES_KEY = "selfkd_memories"
PROCESSES_KEY = "selfkd_processes"
STEPS_KEY = "selfkd_steps_per_epoch"
THREADS_KEY = "selfkd_threads"

TRAINING_FILE, BEST_FILE = "training.ckpt", "best.ckpt"
START_AFRESH = "'selfkd train' with --overwrite starts the run afresh"
"""What to do when no checkpoint can be used."""

_HISTORY = "history"  # the memory that had a file before there were others
_MEMORY = re.compile(rf"{_HISTORY}\.pt|memory-({MEMORY_NAME})\.pt")
_PIECE = 1 << 20
_NEEDS_MEMORY = "no checkpoint was removed; close other programs, or use a machine with more memory"


def _is_list_of_mappings(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 1


# Everything but the weights that a training needs to continue: the key, and a check of its value. Older checkpoints
# lack the number of threads.
_CONTINUED: Mapping[str, Callable[[Any], bool]] = {
    "optimizer_states": _is_list_of_mappings,
    "lr_schedulers": _is_list_of_mappings,
    "loops": lambda value: isinstance(value, dict) and bool(value),
    BEST_KEY: lambda value: isinstance(value, float),
    PROCESSES_KEY: _is_count,
    STEPS_KEY: _is_count,
    THREADS_KEY: lambda value: value is None or (_is_count(value) and value <= MOST_THREADS),
    "callbacks": lambda value: isinstance(value, dict),
}


def write_checkpoint(checkpoint: Mapping[str, Any], best: Path, folder: Path) -> None:
    """Write the files of a checkpoint into an empty folder.

    Args:
        checkpoint: what Lightning saves, and the states of the memories.
        best: the file with the weights of the best epoch so far, if it exists.
        folder: where the files go.
    Raises: OSError: if one cannot be written.
    """
    training = dict(checkpoint)
    memories = training.pop(MEMORIES_KEY, {})
    write_tensors(training, folder / TRAINING_FILE)
    for name, state in memories.items():
        write_tensors(state, _memory_file(folder, name))
    if best.exists():
        link_or_copy(best, folder / BEST_FILE)
    sums = {file.name: checksum(file) for file in sorted(folder.iterdir())}
    with (folder / CHECKSUMS_FILE).open("w", encoding="utf-8") as file:
        file.write(to_json(sums))
        _sync(file)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A whole checkpoint, as `write_checkpoint` got it; its tensors are mapped, not yet in memory.

    Raises:
        CheckpointError: if a file is missing or damaged.
        MemoryExhaustedError: if there is too little memory.
    """
    damage = changed_file(path)
    if damage is not None:
        raise CheckpointError(f"{damage}; {START_AFRESH}")
    checkpoint = _read_checkpoint_file(path / TRAINING_FILE)
    found = [(_MEMORY.fullmatch(file.name), file) for file in path.iterdir()]
    checkpoint[MEMORIES_KEY] = {match[1] or _HISTORY: _read(file) for match, file in found if match is not None}
    return checkpoint


def read_weights(file: Path, prefix: str = "") -> tuple[dict[str, Tensor], int]:
    """The weights of a file, and their epoch, counted from 1.

    Args:
        file: of a checkpoint.
        prefix: only weights whose keys begin with it are returned, under keys without it.
    Raises:
        CheckpointError: if the file is missing, damaged, or not written by selfkd.
        MemoryExhaustedError: if there is too little memory.
    """
    checkpoint = _read_checkpoint_file(file)
    state = checkpoint["state_dict"]
    weights = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    return weights, int(checkpoint["epoch"]) + 1


def load_weights(part: nn.Module, file: Path, prefix: str = "") -> int:
    """Load all weights whose keys begin with `prefix` into a module. Returns their epoch, counted from 1.

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


def is_checkpoint_file(name: str) -> bool:
    """Whether checkpoints have a file of this name."""
    return name in (TRAINING_FILE, BEST_FILE, CHECKSUMS_FILE) or _MEMORY.fullmatch(name) is not None


def damage_for_training(path: Path, epochs: int) -> str | None:
    """Why a training cannot continue from a checkpoint that should be of so many epochs, in words, or None."""
    damage = changed_file(path) or damage_of_weights(path, TRAINING_FILE)
    if damage is not None:
        return damage
    training = _read_checkpoint_file(path / TRAINING_FILE)
    unusable = [key for key, is_usable in _CONTINUED.items() if not is_usable(training.get(key))]
    if unusable:
        why = "it is damaged, or another version of selfkd wrote it"
        return f"{path / TRAINING_FILE} holds no usable {', '.join(unusable)}: {why}"
    if training["epoch"] + 1 != epochs:
        return f"{path / TRAINING_FILE} is of epoch {training['epoch'] + 1}"
    return None


def damage_of_weights(path: Path, name: str) -> str | None:
    """Why this file of a checkpoint gives no weights, in words, or None."""
    damage = changed_file(path, name)
    if damage is not None or not (path / name).exists():
        return damage
    try:
        _read_checkpoint_file(path / name)
    except CheckpointError as error:
        return str(error)
    return None


def changed_file(path: Path, only: str | None = None) -> str | None:
    """Which file of a checkpoint is missing or damaged, in words, or None; with `only`, this file alone is checked."""
    noted = path / CHECKSUMS_FILE
    try:
        with memory_for(f"reading {path}", _NEEDS_MEMORY):
            sums = json.loads(noted.read_text(encoding="utf-8")) if noted.is_file() else None
            if not isinstance(sums, dict) or TRAINING_FILE not in sums:
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
    """The size of a file in bytes, and its CRC-32.

    Raises: OSError: if it cannot be read.
    """
    crc = 0
    with file.open("rb") as opened:
        while piece := opened.read(_PIECE):
            crc = zlib.crc32(piece, crc)
    return {"bytes": file.stat().st_size, "crc32": crc}


def write_tensors(content: Any, path: Path) -> None:
    """Write a new file with torch; it is on disk when this returns.

    Raises: OSError: if it cannot be written.
    """
    with path.open("xb") as file:  # never into a file that has another name in a checkpoint
        try:
            torch.save(content, file)
        except RuntimeError as error:  # torch raises it when the disk is full
            if is_out_of_memory(error):
                raise
            raise OSError(str(error)) from error
        _sync(file)


def link_or_copy(file: Path, name: Path) -> None:
    """Give a file a second name, or copy it if the file system has no links. Neither is ever changed, only replaced."""
    try:
        name.hardlink_to(file)
    except OSError:
        with file.open("rb") as source, name.open("xb") as copy:
            shutil.copyfileobj(source, copy)
            _sync(copy)


def _memory_file(path: Path, name: str) -> Path:
    """The file of a memory in a checkpoint."""
    check_memory_name(name)
    return path / (f"{name}.pt" if name == _HISTORY else f"memory-{name}.pt")


def _read_checkpoint_file(file: Path) -> dict[str, Any]:
    """The content of a file: weights under their keys, their epoch counted from 0, and more.

    Raises: CheckpointError: if it is missing, damaged, or not written by selfkd.
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
    except MemoryExhaustedError:  # the file may be whole
        raise
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({first_line(error)})") from error
    except Exception as error:  # on a made-up file torch may raise anything, and advises the user to trust the file
        raise CheckpointError(f"{path} is damaged or holds more than numbers, texts and tensors") from error


def _sync(file: IO[Any]) -> None:
    file.flush()
    os.fsync(file.fileno())
