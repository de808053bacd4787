"""The processes that torch.distributed connects, and this one's place among them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import distributed

__all__ = ["broadcast_from_main", "is_distributed", "process_count", "process_rank"]

T = TypeVar("T")


def process_count() -> int:
    """How many there are; 1 where none are connected."""
    return distributed.get_world_size() if _connected() else 1


def process_rank() -> int:
    """Which of them this one is, counted from 0; 0 where none are connected."""
    return distributed.get_rank() if _connected() else 0


def is_distributed() -> bool:
    """Whether this process is connected to others that train with it."""
    return process_count() > 1


def broadcast_from_main(give: Callable[[], T]) -> T:
    """What the first process gives, in all of them, each of which waits for it."""
    if not is_distributed():
        return give()
    box: list[Any] = [give() if process_rank() == 0 else None]
    distributed.broadcast_object_list(box, src=0)
    given: T = box[0]
    return given


def _connected() -> bool:
    return distributed.is_available() and distributed.is_initialized()
