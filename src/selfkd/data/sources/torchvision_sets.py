"""Data sets that torchvision downloads and reads.

CIFAR's files are pickles; torchvision compares their checksums before it opens them. Fashion-MNIST's files are plain
numbers; torchvision compares their checksums when it downloads them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

from selfkd.data.reading.class_folders import root_folder
from selfkd.errors import DataError

__all__ = ["read_torchvision", "set_folder"]

_UNREADABLE = (RuntimeError, OSError, ValueError, TypeError, LookupError, AssertionError, EOFError)
"""The errors of torchvision for files that are missing, damaged or of another length."""


def set_folder(root: str | None, holds: str, download: bool) -> Path:
    """The folder of a data set that torchvision reads.

    Args:
        root: the option `data.root`.
        holds: what the folder must hold, in words.
        download: whether the folder may be missing.
    Raises:
        OptionError: if `root` is None.
        DataError: if the folder does not exist.
    """
    if root is not None and download:
        return Path(root).expanduser()
    return root_folder(root, holds, "; data.download=true makes and fills it")


def read_torchvision(dataset: Callable[..., Any], folder: Path, holds: str, download: bool) -> tuple[Any, Any]:
    """Training and test set, read by torchvision.

    Args:
        dataset: a class of torchvision.
        folder: the folder that the class reads below its `root`.
        holds: what `root` must hold, in words.
        download: whether missing files may be downloaded.
    Raises: DataError: if the data set is missing, damaged, or cannot be downloaded.
    """
    root = folder.parent
    if not download and not folder.is_dir():
        raise DataError(f"data.root={str(root)!r} holds no {holds}; data.download=true fetches {folder.name} there")
    try:
        train, test = (dataset(str(root), train=train, download=download) for train in (True, False))
    except URLError as error:
        raise DataError(f"{folder} could not be downloaded: {error.reason}") from error
    except _UNREADABLE as error:
        advice = "" if download else "; once it is deleted, data.download=true fetches it again"
        raise DataError(f"{folder} is incomplete or damaged: {error}{advice}") from error
    for name, part in (("training", train), ("test", test)):
        if len(part.data) != len(part.targets):
            raise DataError(f"{folder} has {len(part.data)} {name} images but {len(part.targets)} labels")
    return train, test
