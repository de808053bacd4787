"""The processor cores that this process may use, and a limit for those that it starts."""

from __future__ import annotations

import joblib

__all__ = ["available_cores", "limited_to"]


def available_cores() -> int:
    """How many: as the machine, the process's affinity, a container's quota and `limited_to` allow; at least 1."""
    cores: int = joblib.cpu_count()
    return cores


def limited_to(cores: int) -> dict[str, str]:
    """The environment variable with which a new process has at most so many `available_cores`.

    `OMP_NUM_THREADS` would set the number of threads, also where fewer are faster.
    """
    return {"LOKY_MAX_CPU_COUNT": str(cores)}  # joblib's name for it
