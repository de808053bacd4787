"""The processes that torch.distributed connects, and the rank of this one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import distributed

__all__ = ["broadcast_from_main", "is_distributed", "process_count", "process_rank"]

T = TypeVar("T")


def process_count() -> int:
    """The number of connected processes; 1 if there are none."""
    return distributed.get_world_size() if _connected() else 1


def process_rank() -> int:
    """The rank of this process, counted from 0; 0 if none are connected."""
    return distributed.get_rank() if _connected() else 0


def is_distributed() -> bool:
    """Whether this process is connected to others that train with it."""
    return process_count() > 1


def broadcast_from_main(give: Callable[[], T]) -> T:
    """Call `give` in the main process alone, and return its result in every process. The others wait for it."""
    if not is_distributed():
        return give()
    results: list[Any] = [give() if process_rank() == 0 else None]
    distributed.broadcast_object_list(results, src=0)
    result: T = results[0]
    return result


def _connected() -> bool:
    return distributed.is_available() and distributed.is_initialized()
