"""One epoch's predictions for all samples, and which samples have one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from selfkd.memories.row_formats import RowFormat
from selfkd.memories.storages import Storage

__all__ = ["PredictionTable", "in_chunks"]

_CHUNK_BYTES = 64 * 1000**2


@dataclass(frozen=True)
class PredictionTable:
    """A row of predictions for each sample. All tensors are on one device.

    Args:
        fields: the tensors that the row format stores, each `[N, ...]`.
        written: `[N]` bool: which rows were written.
    """

    fields: tuple[Tensor, ...]
    written: Tensor

    @classmethod
    def empty(cls, row_format: RowFormat, num_samples: int, storage: Storage) -> PredictionTable:
        """A table of zeros, with no row written."""
        fields = tuple(storage.zeros((num_samples, *shape), dtype) for shape, dtype in row_format.fields.values())
        return cls(fields, storage.zeros((num_samples,), torch.bool))

    @property
    def device(self) -> torch.device:
        """The device of the tensors."""
        return self.written.device

    def read(self, indices: Tensor) -> tuple[Tensor, ...]:
        """The fields of some samples, and last whether each was written. `indices` are on the table's device."""
        return (*(field[indices] for field in self.fields), self.written[indices])

    def write(self, indices: Tensor, fields: Sequence[Tensor]) -> None:
        """Write the rows of some samples. If an index is repeated, one of its rows is kept."""
        for mine, theirs in zip(self.fields, fields, strict=True):
            mine[indices] = theirs
        self.written[indices] = True

    def copy_from(self, fields: Sequence[Tensor], written: Tensor) -> None:
        """Copy all rows from tensors of the same shapes."""
        for mine, theirs in zip((*self.fields, self.written), (*fields, written), strict=True):
            mine.copy_(theirs)


def in_chunks(indices: Tensor, row_bytes: int) -> Iterator[Tensor]:
    """Split indices into chunks whose rows take at most 64 MB."""
    return iter(torch.split(indices, max(1, _CHUNK_BYTES // row_bytes)) if len(indices) else ())
