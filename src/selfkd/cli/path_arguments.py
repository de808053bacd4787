"""Arguments that name files and folders."""

from __future__ import annotations

import argparse
from pathlib import Path

from selfkd.errors import shown

__all__ = ["not_empty", "path"]


def not_empty(text: str) -> str:
    """What was given, unless it is empty: as a path, that would be the current folder.

    Raises: argparse.ArgumentTypeError: to which argparse adds the argument's name.
    """
    if not text:
        raise argparse.ArgumentTypeError("must not be empty ('.' is the current folder)")
    return text


def path(text: str) -> Path:
    """What was given, as a path; `~` and `~name` at its beginning are somebody's home, if a shell has left them there.

    Raises: argparse.ArgumentTypeError: if it is empty, or nobody has that name.
    """
    try:
        return Path(not_empty(text)).expanduser()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(
            f"{shown(text)} begins with the name of nobody here; './~...' is a folder of that name"
        ) from error
