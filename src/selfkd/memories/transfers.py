"""Copies of rows between an accelerator and main memory. No training step waits for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

__all__ = ["HostCopies", "copy_to_device"]

_MOST_PENDING = 16  # steps by which the host may run ahead of the device; then it waits for the oldest copy


def copy_to_device(rows: Sequence[Tensor], device: torch.device) -> tuple[Tensor, ...]:
    """Copy rows from main memory to a device."""
    if device.type != "cuda":
        return tuple(row.to(device) for row in rows)
    # Fresh page-locked buffers at each step: torch's allocator reuses one only when its copy is done.
    return tuple(row.pin_memory().to(device, non_blocking=True) for row in rows)


class HostCopies:
    """Copies of rows from a device to main memory, oldest first."""

    def __init__(self) -> None:
        self._pending: deque[tuple[Tensor, tuple[Tensor, ...], torch.cuda.Event | None]] = deque()

    def start(self, indices: Tensor, fields: Sequence[Tensor]) -> None:
        """Start to copy the rows of some samples.

        Args:
            indices: of the samples, in main memory.
            fields: their rows, on the device.
        """
        if fields[0].device.type != "cuda":
            self._pending.append((indices, tuple(field.cpu() for field in fields), None))
            return
        buffers = tuple(torch.empty(field.shape, dtype=field.dtype, pin_memory=True) for field in fields)
        for buffer, field in zip(buffers, fields, strict=True):
            buffer.copy_(field, non_blocking=True)
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record(torch.cuda.current_stream(fields[0].device))
        self._pending.append((indices, buffers, done))

    def finished(self, wait: bool = False) -> Iterator[tuple[Tensor, tuple[Tensor, ...]]]:
        """Indices and rows of the finished copies, each once; with `wait`, of all copies."""
        while self._pending:
            indices, fields, done = self._pending[0]
            if done is not None and not done.query():  # type: ignore[no-untyped-call]
                if not wait and len(self._pending) <= _MOST_PENDING:
                    return
                done.synchronize()
            self._pending.popleft()
            yield indices, fields

    def clear(self) -> None:
        """Drop all copies."""
        self._pending.clear()
