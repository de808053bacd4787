"""The processes that are connected by torch.distributed, and this one's place among them."""

from __future__ import annotations

from torch import distributed

__all__ = ["process_count", "process_rank"]


def process_count() -> int:
    """How many there are; 1 where none are connected."""
    return distributed.get_world_size() if _connected() else 1


def process_rank() -> int:
    """Which of them this one is, counted from 0; 0 where none are connected."""
    return distributed.get_rank() if _connected() else 0


def _connected() -> bool:
    return distributed.is_available() and distributed.is_initialized()
