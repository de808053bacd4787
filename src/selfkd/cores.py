"""The processor cores that this process may use."""

from __future__ import annotations

import joblib

__all__ = ["available_cores"]


def available_cores() -> int:
    """How many: as few as the machine, the process's affinity or a container's quota allow; at least 1."""
    cores: int = joblib.cpu_count()
    return cores
