"""Environment variables that PyTorch and its libraries read when they are loaded. Nothing here imports torch."""

from __future__ import annotations

import os

__all__ = ["variables"]

_SETTINGS = {
    # A thread that waits for others sleeps. By default it keeps its core for some milliseconds; where another program
    # has taken the core of the thread that is waited for, all of them wait for that program's turn to end.
    "OMP_WAIT_POLICY": "PASSIVE",
    # PyTorch takes large CPU tensors in huge pages, which spares page faults.
    "THP_MEM_ALLOC_ENABLE": "1",
}


def variables() -> dict[str, str]:
    """What a process that trains has in its environment before torch is imported: the user's values, else ours."""
    return {name: os.environ.get(name, value) for name, value in _SETTINGS.items()}
