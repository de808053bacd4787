"""Arguments that name files and folders."""

from __future__ import annotations

import argparse
from pathlib import Path

from selfkd.errors import shown

__all__ = ["not_empty", "path"]


def not_empty(text: str) -> str:
    """Return the text, unless it is empty: an empty path would be the current folder.

    Raises: argparse.ArgumentTypeError: to which argparse adds the argument's name.
    """
    if not text:
        raise argparse.ArgumentTypeError("must not be empty ('.' is the current folder)")
    return text


def path(text: str) -> Path:
    """Return the text as a path, with `~` or `~name` at its beginning replaced by that user's home.

    Raises: argparse.ArgumentTypeError: if it is empty, or there is no such user.
    """
    try:
        return Path(not_empty(text)).expanduser()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(
            f"{shown(text)} begins with '~' and a name that no user of this machine has; write './~...' for a folder "
            "of that name"
        ) from error
