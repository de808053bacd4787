"""Atomic writes: a file or folder is either whole or not there."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from selfkd.errors import StorageError, first_line

__all__ = ["folder_written_whole", "remove", "written_whole"]


@contextmanager
def written_whole(path: Path, among_others: bool = False) -> Iterator[Path]:
    """Write a file: the `with` block writes to the path that it gets, which then replaces `path` in one step.

    If the block raises an error, the old file stays, and the half-written one is removed.

    Args:
        path: the file.
        among_others: whether files of other people may lie in the folder. Then the half-written file has a random name,
            so that it replaces none of theirs. Otherwise it replaces what a killed process left half-written.
    Raises: StorageError: if the block raises an OSError.
    """
    partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}.partial") if among_others else _partial(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)  # of a process that was killed
        yield partial
        partial.replace(path)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError):
            raise _cannot_be_written(path, error) from error
        raise


@contextmanager
def folder_written_whole(path: Path) -> Iterator[Path]:
    """Write a folder: the `with` block writes into the folder that it gets, which then becomes `path`, whole on disk.

    A folder that was there is removed before. The block must synchronise its files with the disk. If it raises an
    error, the half-written folder is removed.

    Raises: StorageError: if the block raises an OSError.
    """
    partial = _partial(path)
    try:
        remove(partial)  # of a process that was killed
        partial.mkdir(parents=True)
        yield partial
        _synchronise(partial)
        remove(path)
        partial.rename(path)
        _synchronise(path.parent)
    except BaseException as error:
        with suppress(OSError):
            remove(partial)
        if isinstance(error, OSError):
            raise _cannot_be_written(path, error) from error
        raise


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with its contents. Does nothing if there is none.

    Raises: OSError: if it cannot be removed.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def _synchronise(folder: Path) -> None:
    """Wait until the names in a folder are on disk; on Windows this is not possible."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _cannot_be_written(path: Path, error: OSError) -> StorageError:
    return StorageError(f"{path} cannot be written ({first_line(error)}); what was saved before is whole")
