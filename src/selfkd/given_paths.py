"""Checks of paths that a user gives. They come before the heavy imports, so this module does not import torch."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from selfkd.errors import DataError, RunError, UserError, few, shown

__all__ = [
    "CSV_ENDING",
    "RECIPE_FILE",
    "check_path",
    "check_run",
    "csv_or_folder",
    "data_place",
    "expanded",
    "is_folder",
    "is_there",
    "lacking",
]

CSV_ENDING = ".csv"
"""How the name of a table of image files and labels ends, in lower case."""
RECIPE_FILE = "recipe.yaml"
"""Name of the file in a run folder that holds its resolved recipe."""


def lacking(path: Path) -> str | None:
    """What a path must be so that a file system can hold it and torch can read it, in words; None if it is so."""
    try:
        str(path.absolute()).encode()
        os.lstat(path)
    except ValueError:
        return "a path without null bytes, in characters that UTF-8 can write"
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return "a path that is short enough for this system"
    return None


def check_path(path: Path) -> None:
    """Refuse a path that no file system can hold, or that UTF-8 cannot encode, because torch could not read it.

    Raises: UserError: naming the path.
    """
    wanted = lacking(path)
    if wanted is not None:
        raise UserError(f"{shown(str(path))} cannot be used; with all folders above it, it must be {wanted}")


def expanded(path: str | os.PathLike[str]) -> Path:
    """The path with `~` replaced by the user's home. `~` before the name of an unknown user stays."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def is_there(path: Path) -> bool:
    """Whether there is a file. False also if a folder above it cannot be entered."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_folder(path: Path) -> bool:
    """Whether there is a folder. False also if a folder above it cannot be entered."""
    try:
        return path.is_dir()
    except OSError:  # also for a name that is too long
        return False


def check_run(path: Path) -> None:
    """Refuse a path that is not a run folder.

    Raises: RunError: naming the path.
    """
    try:
        check_path(path)
        found = (path / RECIPE_FILE).is_file()
    except UserError as error:
        raise RunError(str(error)) from error
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error}") from error
    if not found:
        seeds = [str(file.parent) for file in sorted(path.glob(f"seed-*/{RECIPE_FILE}"))]
        advice = f"; give the run of a seed: {few(seeds)}" if seeds else ""
        raise RunError(f"{path} is not a run folder: it holds no {RECIPE_FILE}{advice}")


def csv_or_folder(text: str) -> tuple[str, str] | None:
    """What a text names, in words, and the data set that reads it: `folder` or `csv`. None if it names neither."""
    if not text:
        return None  # Path would take it for the working folder
    try:
        place = Path(text).expanduser()
        if place.is_dir():
            return "folder", "folder"
        is_csv = place.is_file() and place.suffix.lower() == CSV_ENDING
    except (OSError, RuntimeError, ValueError):  # RuntimeError: ~ before an unknown user; ValueError: a null byte
        return None
    return ("CSV file", "csv") if is_csv else None


def data_place(data: str) -> Path:
    """The folder of a data set, or its CSV file, from its path.

    Raises: DataError: if there is no such folder or file, or it cannot be read.
    """
    try:
        place = Path(data).expanduser()
        found = place.is_dir() or (place.is_file() and place.suffix.lower() == CSV_ENDING)
        is_file = place.is_file()
    except (OSError, RuntimeError) as error:  # RuntimeError: ~ before the name of an unknown user
        raise DataError(f"{data} cannot be read: {error}") from error
    if not found:
        if is_file:
            raise DataError(f"{place} is a file, but no CSV file ({CSV_ENDING}); give a folder or a CSV file")
        raise DataError(
            f"{place} is neither a folder, a CSV file nor the name of a data set; 'selfkd list datasets' shows those"
        )
    return place
