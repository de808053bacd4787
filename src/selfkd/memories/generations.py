"""One generation of predictions: the rows of all samples, and which of them were written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from selfkd.memories.places import Place
from selfkd.memories.row_forms import RowForm

__all__ = ["Generation", "in_chunks"]

_CHUNK_BYTES = 64 * 1000**2


@dataclass(frozen=True)
class Generation:
    """Tables of one generation, all on one device.

    Args:
        fields: what the form of the rows stores, each `[N, ...]`.
        written: `[N]` bool.
    """

    fields: tuple[Tensor, ...]
    written: Tensor

    @classmethod
    def empty(cls, form: RowForm, num_samples: int, place: Place) -> Generation:
        """Rows of zeros, none of them written."""
        fields = tuple(place.zeros((num_samples, *shape), dtype) for shape, dtype in form.fields.values())
        return cls(fields, place.zeros((num_samples,), torch.bool))

    @property
    def device(self) -> torch.device:
        """Where the tables are."""
        return self.written.device

    def rows(self, indices: Tensor) -> tuple[Tensor, ...]:
        """Fields of some samples, and last whether each was written; indices on the tables' device."""
        return (*(field[indices] for field in self.fields), self.written[indices])

    def put(self, indices: Tensor, fields: Sequence[Tensor]) -> None:
        """Write some samples; of repeated indices, one wins."""
        for mine, theirs in zip(self.fields, fields, strict=True):
            mine[indices] = theirs
        self.written[indices] = True

    def take_over(self, fields: Sequence[Tensor], written: Tensor) -> None:
        """Become a copy of tables of the same shapes."""
        for mine, theirs in zip((*self.fields, self.written), (*fields, written), strict=True):
            mine.copy_(theirs)


def in_chunks(indices: Tensor, row_bytes: int) -> Iterator[Tensor]:
    """Indices of so many rows at a time that they take a modest part of memory."""
    return iter(torch.split(indices, max(1, _CHUNK_BYTES // row_bytes)) if len(indices) else ())
