"""A method's memory: what it keeps from one epoch to the next beside its weights. Every memory has this interface."""

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
"""Regular expression for the name of a memory. The name is a part of a file's name in a checkpoint."""


def check_memory_name(name: object) -> None:
    """Refuse a name that cannot be a part of a file's name.

    Raises: UserError: if the name does not match `MEMORY_NAME`.
    """
    if not (isinstance(name, str) and re.fullmatch(MEMORY_NAME, name)):
        raise UserError(
            f"a memory cannot be named {shown(name)}; its name must begin with a letter and have letters, digits and "
            "underscores only, at most 100"
        )


class Memory(ABC):
    """What a method keeps from one epoch to the next: a history of predictions, a bank, a queue.

    An epoch begins with `discard` and ends with `commit`. Reads and `state_dict` see what stood at the last `commit`.
    So an epoch that was broken off can begin again. A memory is not a module and has no buffers: data-parallel training
    broadcasts buffers, which would undo the writes of other processes.

    Attributes:
        checks_indices: whether `fetch` refuses sample indices out of range, so that the method need not.
        off_device: recipe overrides that move the memory off the device that trains; a message about too little device
            memory recommends them.
        samples_written: number of samples written since the last `commit` or `discard`; a sample that was written
            twice counts twice.
    """

    checks_indices: ClassVar[bool] = False
    off_device: ClassVar[tuple[str, ...]] = ()
    samples_written: int = 0

    @property
    @abstractmethod
    def is_empty(self) -> bool:
        """Whether there is nothing to read yet."""

    @abstractmethod
    def discard(self) -> None:
        """Begin an epoch, perhaps once more: forget what was written since the last `commit`."""

    @abstractmethod
    def commit(self) -> None:
        """End an epoch: what it wrote can now be read. All processes that train together call this and exchange it.

        Raises: BatchError: if something wrong was written; then the epoch's writes are forgotten.
        """

    def guard(self) -> None:
        """Check values that only the device knew, and wait for the device. Does nothing by default.

        Raises: BatchError: if a value was wrong; then the epoch's writes are forgotten.
        """

    def fetch(self, indices: Tensor, host_indices: Tensor | None = None) -> None:
        """Prepare what a step will read. Called before each step of a method that needs indices. Does nothing by
        default.

        Args:
            indices: `[B]` int64, the batch's sample indices.
            host_indices: the same indices in main memory, if they are known there.
        """

    @abstractmethod
    def state_dict(self) -> dict[str, object]:
        """The state at the last `commit`: numbers, texts and tensors, equal in all processes. No copies are needed."""

    @abstractmethod
    def check_state_dict(self, state: Mapping[str, object]) -> None:
        """Check that `load_state_dict` can load a state. Changes nothing.

        Raises: ValueError: if the state does not fit this memory; the message describes both.
        """

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Load what `state_dict` gave, from any device.

        Raises: ValueError: as `check_state_dict`, before anything has changed.
        """

    @abstractmethod
    def to(self, device: torch.device | str) -> Self:
        """Move the memory to where training on `device` needs it. Returns self.

        Called when each epoch begins, so it does nothing if the memory is there already.

        Raises: StorageError: if there is no room.
        """
