"""Rows on their way between an accelerator and tables in main memory, for which nobody waits in a step."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

__all__ = ["Arrivals", "sent"]

_MOST_UNDERWAY = 16  # steps by which the host may run ahead of the device before it waits for the oldest


def sent(rows: Sequence[Tensor], device: torch.device) -> tuple[Tensor, ...]:
    """Rows of main memory, on a device."""
    if device.type != "cuda":
        return tuple(row.to(device) for row in rows)
    # Fresh page-locked buffers at each step: torch's allocator reuses one only when its copy is done.
    return tuple(row.pin_memory().to(device, non_blocking=True) for row in rows)


class Arrivals:
    """Rows that a device was asked for, in the order of asking."""

    def __init__(self) -> None:
        self._underway: deque[tuple[Tensor, tuple[Tensor, ...], torch.cuda.Event | None]] = deque()

    def ask(self, indices: Tensor, fields: Sequence[Tensor]) -> None:
        """Begin to copy what `fields` will hold when the device gets there.

        Args:
            indices: in main memory.
            fields: rows on the device.
        """
        if fields[0].device.type != "cuda":
            self._underway.append((indices, tuple(field.cpu() for field in fields), None))
            return
        buffers = tuple(torch.empty(field.shape, dtype=field.dtype, pin_memory=True) for field in fields)
        for buffer, field in zip(buffers, fields, strict=True):
            buffer.copy_(field, non_blocking=True)
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record(torch.cuda.current_stream(fields[0].device))
        self._underway.append((indices, buffers, arrived))

    def arrived(self, wait: bool = False) -> Iterator[tuple[Tensor, tuple[Tensor, ...]]]:
        """Indices and rows that are here, each once; with `wait`, all that were asked for."""
        while self._underway:
            indices, fields, event = self._underway[0]
            if event is not None and not event.query():  # type: ignore[no-untyped-call]
                if not wait and len(self._underway) <= _MOST_UNDERWAY:
                    return
                event.synchronize()
            self._underway.popleft()
            yield indices, fields

    def forget(self) -> None:
        """Drop what is under way."""
        self._underway.clear()
