"""The names of checkpoints, and the checkpoints in a folder. No checkpoint is opened, and torch is not imported."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = [
    "CHECKSUMS_FILE",
    "checkpoint_folder",
    "checkpoints_in",
    "epochs_in",
    "has_checkpoints",
    "is_checkpoint_name",
]

CHECKSUMS_FILE = "checksums.json"
"""The file in a checkpoint's folder that holds size and CRC-32 of the others."""

_FOLDER = re.compile(r"epoch-(\d{6,18})")


def checkpoint_folder(checkpoints: Path, done: int) -> Path:
    """The folder of the checkpoint after so many epochs."""
    return checkpoints / f"epoch-{done:06d}"


def is_checkpoint_name(name: str) -> bool:
    """Whether a folder has the name of a checkpoint."""
    return _FOLDER.fullmatch(name) is not None


def epochs_in(path: Path) -> int:
    """The number of epochs in a checkpoint's name."""
    found = _FOLDER.fullmatch(path.name)
    assert found is not None
    return int(found[1])


def checkpoints_in(checkpoints: Path) -> list[Path]:
    """The checkpoints, whole or not, newest first.

    A folder without checksums is left from a removal that was interrupted, and is none.
    """
    folders = checkpoints.iterdir() if checkpoints.is_dir() else ()
    found = [path for path in folders if is_checkpoint_name(path.name) and (path / CHECKSUMS_FILE).exists()]
    return sorted(found, key=epochs_in, reverse=True)


def has_checkpoints(checkpoints: Path) -> bool:
    """Whether there is any checkpoint, whole or not."""
    return bool(checkpoints_in(checkpoints))
