"""Files and folders that are whole or not there."""

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
    """Write to the path given inside; afterwards it replaces `path` in one step.

    Whatever is raised inside, what was there before stays, and nothing half-written is left.

    Args:
        path: the file.
        among_others: whether files that are not ours may lie beside it, so that only `path` is replaced. Elsewhere what
            a killed process left half-written goes.
    Raises: StorageError: if it cannot be written, which an OSError inside says.
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
    """Write into the folder given inside; afterwards it stands under `path`, all of it on disk.

    What was there goes first. Files are to be synchronised with the disk by who writes them. Whatever is raised inside,
    nothing half-written is left.

    Raises: StorageError: if it cannot be written, which an OSError inside says.
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
    """Remove a file, a link, or a folder with all that is in it; nothing where there is none.

    Raises: OSError: if it cannot be removed.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def _synchronise(folder: Path) -> None:
    """Wait until the names in a folder are on disk; a system that cannot say so is believed."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _cannot_be_written(path: Path, error: OSError) -> StorageError:
    return StorageError(f"{path} cannot be written ({first_line(error)}); what was saved before is whole")
