"""What a method remembers across epochs beyond its weights: the protocol that training and checkpoints know."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Self

import torch
from torch import Tensor

from selfkd.errors import UserError, shown

__all__ = ["MEMORY_NAME", "Memory", "check_memory_name"]

MEMORY_NAME = r"[A-Za-z][A-Za-z0-9_]{0,99}"
"""Of a memory among those of a method, as a regular expression; a checkpoint's file has it."""


def check_memory_name(name: object) -> None:
    """Refuse a memory's name of which no file can be made.

    Raises: UserError: saying what is allowed.
    """
    if not (isinstance(name, str) and re.fullmatch(MEMORY_NAME, name)):
        raise UserError(
            f"a memory named {shown(name)} has no file; its name must be letters, digits and underscores, a letter "
            "first, at most 100"
        )


class Memory(ABC):
    """Something remembered: a history of predictions, a bank, a queue.

    An epoch begins with `discard` and ends with `commit`; what a state holds is what stood at the last `commit`, so
    that an epoch which was broken off is replayed from its start. It is no module and holds no buffers, because
    data-parallel training broadcasts those and would undo other processes' writes.

    Attributes:
        checks_indices: whether `fetch` refuses sample indices out of range, so that the method need not.
        off_device: overrides with which the memory leaves the device that trains, where that has too little room.
        samples_written: how many samples were written since the last `commit` or `discard`; one that was written twice
            counts twice.
    """

    checks_indices: ClassVar[bool] = False
    off_device: ClassVar[tuple[str, ...]] = ()
    samples_written: int = 0

    @property
    @abstractmethod
    def is_empty(self) -> bool:
        """Whether no epoch has left anything to read."""

    @abstractmethod
    def discard(self) -> None:
        """Forget what the current epoch wrote: it begins, perhaps once more."""

    @abstractmethod
    def commit(self) -> None:
        """End the epoch: what it wrote can be read. All processes that train together call this and exchange it.

        Raises: BatchError: if what was written is wrong; it is forgotten.
        """

    def guard(self) -> None:
        """Look at what only a device knew; waits for it. Nothing by default.

        Raises: BatchError: if something was wrong; what the epoch wrote is forgotten.
        """

    def fetch(self, indices: Tensor, host_indices: Tensor | None = None) -> None:
        """Prepare what a step will read; called before each step of a method that needs indices. Nothing by default.

        Args:
            indices: `[B]` int64, of the samples of the batch.
            host_indices: the same in main memory, where they are known there.
        """

    @abstractmethod
    def state_dict(self) -> dict[str, object]:
        """What stood at the last `commit`: numbers, texts and tensors, which may be the memory's own; the same in all
        processes."""

    @abstractmethod
    def check_state_dict(self, state: Mapping[str, object]) -> None:
        """Whether `load_state_dict` can take a state; changes nothing.

        Raises: ValueError: if it is of something else (the message names both).
        """

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Restore what `state_dict` gave, on whatever device.

        Raises: ValueError: as `check_state_dict`, before anything is changed.
        """

    @abstractmethod
    def to(self, device: torch.device | str) -> Self:
        """Get ready for training on a device, and bring there what there is; returns self.

        Called as each epoch begins, so that it does nothing where the memory is there already.

        Raises: StorageError: if there is no room.
        """
