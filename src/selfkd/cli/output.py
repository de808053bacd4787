"""Where a verb writes its result: standard output, or the file of --output."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selfkd.atomic_files import written_whole
from selfkd.terminal import write_exactly

__all__ = ["opened"]


@contextmanager
def opened(path: Path | None) -> Iterator[Callable[[str], Any]]:
    """Gives a function that writes text to standard output, or to a file that appears only when it is complete.

    Args:
        path: the file, checked by `selfkd.api.check_output`; None for standard output.
    """
    if path is None:
        yield write_exactly
        return
    with (
        written_whole(path, among_others=True) as partial,
        partial.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        yield file.write
