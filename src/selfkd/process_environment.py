"""Environment variables that PyTorch and its libraries read when they are loaded. Nothing here imports torch."""

from __future__ import annotations

import os
import re

__all__ = ["says_threads", "variables"]

_SETTINGS = {
    # A thread that waits for others sleeps. By default it keeps its core for some milliseconds; where another program
    # has taken the core of the thread that is waited for, all of them wait for that program's turn to end.
    "OMP_WAIT_POLICY": "PASSIVE",
    # PyTorch takes large CPU tensors in huge pages, which spares page faults.
    "THP_MEM_ALLOC_ENABLE": "1",
}
_POSITIVE = re.compile(r"\s*\+?0*[1-9][0-9]{0,17}\s*", re.ASCII)


def variables() -> dict[str, str]:
    """What a process that trains has in its environment before torch is imported: the user's values, else ours."""
    return {name: os.environ.get(name, value) for name, value in _SETTINGS.items()}


def says_threads(name: str) -> bool:
    """Whether a variable such as `OMP_NUM_THREADS` says how many threads compute; else OpenMP ignores it.

    Its value must be a positive whole number, or a list such as "4,2", whose first number is meant.
    """
    return all(_POSITIVE.fullmatch(number) for number in os.environ.get(name, "").split(","))
