"""The history of predictions: what each head predicted for each sample in the previous epoch."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from selfkd.errors import BatchError, UserError
from selfkd.losses.labels import label_probabilities
from selfkd.memories.base import Memory
from selfkd.memories.exchange import exchange_writes
from selfkd.memories.history_options import HistoryOptions
from selfkd.memories.prediction_table import PredictionTable, in_chunks
from selfkd.memories.row_formats import AllClasses, choose_format, readable_size
from selfkd.memories.storages import Storage, choose_storage, describe_storage
from selfkd.memories.transfers import HostCopies, copy_to_device
from selfkd.option_checks import at_least
from selfkd.process_group import process_count
from selfkd.value_ranges import IndexRange, readable_now

__all__ = ["History"]

_log = logging.getLogger("selfkd")


class _LoadedState:
    """A loaded state whose tables are not allocated yet. It notices if its tensors are changed before they are."""

    def __init__(self, fields: tuple[Tensor, ...], written: Tensor) -> None:
        self.fields, self.written = fields, written
        self._versions = self._current_versions()

    def check(self) -> None:
        if self._versions != self._current_versions():
            raise RuntimeError(
                "the state given to History.load_state_dict was changed before it was copied; call to(device) right "
                "after load_state_dict, or load a copy of the state"
            )

    def _current_versions(self) -> list[int]:
        return [tensor._version for tensor in (*self.fields, self.written)]


@dataclass(frozen=True)
class _FetchedBatch:
    """A batch's indices on the device and in main memory, and its rows on the device, if there is something to read."""

    indices: Tensor
    host_indices: Tensor
    rows: tuple[Tensor, ...] | None


class History(Memory):
    """The predictions of the previous epoch for each sample, of one or more heads.

    There are two tables. Reads see the one that the last `commit` made readable; writes go to the other. So an epoch
    that was killed can begin again, and a sample that is drawn twice in an epoch reads the same row both times. A row
    that an epoch does not write keeps its older value. A row that was never written reads as the label.

    The tables are not module buffers: data-parallel training broadcasts buffers, which would undo the writes of other
    processes. Instead all processes call `commit` and exchange what they wrote. `to` allocates the tables, or else the
    first write does, on its device. No call waits for the device except `guard`, `commit` once per epoch, and reads and
    writes of tables in main memory if `fetch` did not get the indices in main memory.

    An index outside [0, num_samples) is refused at once if the indices are in main memory. If only a device knows them,
    such an index reads and writes the nearest valid row, and `guard` or `commit` refuses it: before anything that was
    written in that epoch can be read.

    Args:
        num_samples: size of the training set, >= 1.
        num_classes: K, >= 2.
        heads: names of the heads, in the order in which they are stored.
        options: format and storage; by default all classes in float32 up to 4 GB, in the first storage with room.
    Raises: OptionError: if a size is out of range, `heads` is empty, or the options do not fit the classes.
    Source: Kim et al. 2021 (PS-KD), section 3.2; Li et al. (DTSKD), historical teacher.
    """

    checks_indices = True
    off_device = ("history.storage=pinned",)

    def __init__(
        self, num_samples: int, num_classes: int, heads: Sequence[str], options: HistoryOptions | None = None
    ) -> None:
        self.num_samples = at_least("num_samples", num_samples, 1)
        self.num_classes = at_least("num_classes", num_classes, 2)
        self.heads = tuple(heads)
        at_least("number of heads", len(self.heads), 1)
        self._previous: PredictionTable | None = None  # is read
        self._next: PredictionTable | None = None  # is written
        self._storage: Storage | None = None  # of both tables, once they are allocated
        self._device: torch.device | None = None  # the one that trains
        self._loaded: _LoadedState | None = None
        self._fetched: _FetchedBatch | None = None
        self._copies = HostCopies()
        self._readable = False  # whether a `commit` has followed a write
        self._largest_write = 0  # samples, since the last `commit`
        self._checked: Tensor | None = None  # the indices that were checked last
        self._range = IndexRange(self.num_samples)
        self.configure(options or HistoryOptions())

    def configure(self, options: HistoryOptions, folder: Path | None = None) -> None:
        """Choose format and storage. Call it before anything is written or loaded.

        Args:
            options: format and storage.
            folder: for files; by default the system's folder for temporary files.
        Raises:
            OptionError: if `top_k` is not below the number of classes.
            UserError: if something was written or loaded already.
        """
        if self.samples_written or self._readable:
            raise UserError("History.configure must be called before anything is written or loaded")
        self._format, self._reason = choose_format(options, self.num_samples, self.num_classes, len(self.heads))
        self._storage_name, self._folder = options.storage, folder
        self._previous = self._next = self._storage = self._device = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to read yet."""
        return not self._readable

    @property
    def nbytes(self) -> int:
        """Bytes of both tables, allocated or not."""
        return self._format.table_bytes(self.num_samples)

    def described(self) -> str:
        """A sentence with its size, storage and format, and the reason for the format."""
        where = (
            describe_storage(self._storage_name, self._folder) if self._storage is None else self._storage.description
        )
        return f"the history of predictions takes {readable_size(self.nbytes)} {where}: {self._reason}"

    def fetch(self, indices: Tensor, host_indices: Tensor | None = None) -> None:
        """Check a batch's indices. If the tables are not on its device, copy there the rows that `read` will need.

        Each call of a method does this. Without it, reads and writes wait until the device has given the indices.

        Args:
            indices: `[B]` int64 in [0, num_samples), the tensor that `read` and `write` will get.
            host_indices: the same indices in main memory; if they are needed and not given, the device is asked.
        Raises: BatchError: if an index in main memory is out of range.
        """
        if self._loaded is not None:
            self._allocate(indices.device)
        self._fetched = None
        elsewhere = self._is_elsewhere(indices.device)
        if elsewhere and (host_indices is None or not readable_now(host_indices)):
            host_indices = indices.cpu()
        known = indices if host_indices is None else host_indices
        self._range.check(known, now=readable_now(known))
        self._checked = indices
        if not elsewhere:
            return
        assert host_indices is not None
        rows = None
        if self._readable and self._previous is not None:
            rows = copy_to_device(self._previous.read(host_indices), indices.device)
        self._fetched = _FetchedBatch(indices, host_indices, rows)

    def read(self, indices: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Each head's prediction in the previous epoch.

        Args:
            indices: `[B]` int64 in [0, num_samples).
            labels: `[B]` int64, or soft `[B, K]`; they stand for rows that were never written.
        Returns: head name to `[B, K]` float32 probabilities without gradient.
        """
        label_BK = label_probabilities(labels, self.num_classes)
        if not self._readable:
            return dict.fromkeys(self.heads, label_BK)
        *fields, written_B = self._read_rows(indices)
        read_BHK = torch.where(written_B[:, None, None], self._format.decode(fields), label_BK[:, None, :])
        return {head: read_BHK[:, position] for position, head in enumerate(self.heads)}

    @torch.no_grad()
    def write(self, indices: Tensor, probabilities: Mapping[str, Tensor], host_indices: Tensor | None = None) -> None:
        """Store this epoch's predictions. They can be read after the next `commit`.

        Args:
            indices: `[B]` int64 in [0, num_samples); if an index is repeated, one of its rows is kept.
            probabilities: every head's `[B, K]` after softmax.
            host_indices: the same indices in main memory; not needed if `fetch` got them.
        Raises:
            ValueError: if a head is missing or unknown.
            BatchError: if an index in main memory is out of range.
            StorageError: if this call allocates the tables and there is no room.
        """
        if set(probabilities) != set(self.heads):
            raise ValueError(f"History has the heads {self.heads}, got {tuple(probabilities)}")
        fields = self._format.encode(torch.stack([probabilities[head].detach() for head in self.heads], dim=1))
        device = fields[0].device
        table = self._writable_table(device)
        if self._is_elsewhere(device):
            if self._fetched is not None and self._fetched.indices is indices:
                host_indices = self._fetched.host_indices
            else:
                if host_indices is None or not readable_now(host_indices):
                    host_indices = indices.cpu()
                self._range.check(host_indices, now=readable_now(host_indices))
            self._copies.start(host_indices, fields)
            self._receive()
        else:
            if indices is not self._checked:
                self._range.check(indices, now=readable_now(indices))
            table.write(self._clamp(indices), fields)
        self._checked = None  # the same tensor may hold other indices next time
        self.samples_written += len(indices)
        self._largest_write = max(self._largest_write, len(indices))

    @torch.no_grad()
    def commit(self) -> None:
        """End the epoch: what all processes wrote can now be read.

        Raises: BatchError: if an index was out of range, or if the indices seem to be positions within the batch; then
            the epoch's writes are forgotten.
        """
        self._receive(wait=True)
        self._fetched = self._checked = None
        self.guard()
        if self._counts_within_batches():
            samples, largest = self.samples_written, self._largest_write
            self.discard()
            raise BatchError(
                f"{samples} samples were seen in batches of at most {largest}, but no index was above {largest - 1}: "
                "the indices seem to be positions within the batch. They must be positions in the training set "
                f"(DatasetInfo.num_samples={self.num_samples}; it is {largest} if one batch is the whole training set)"
            )
        wrote = self.samples_written > 0
        self._start_counting()
        if process_count() > 1:
            wrote = exchange_writes(self._writable_table(torch.device("cpu")), self._format.row_bytes)
        if not wrote:
            return
        assert self._previous is not None
        assert self._next is not None
        if self._readable:
            kept = (self._previous.written & ~self._next.written).nonzero(as_tuple=True)[0]
            for chunk in in_chunks(kept, self._format.row_bytes):
                self._next.write(chunk, [field[chunk] for field in self._previous.fields])
        self._previous, self._next = self._next, self._previous
        self._next.written.zero_()
        self._readable = True

    def guard(self) -> None:
        """Check the indices that only a device knew, and wait for the device if there are any.

        Raises: BatchError: if one was out of range; then the epoch's writes are forgotten.
        """
        try:
            self._range.check_recorded()
        except BatchError:
            self.discard()
            raise

    @torch.no_grad()
    def discard(self) -> None:
        """Begin the epoch anew: forget what it wrote."""
        self._start_counting()
        self._copies.clear()
        if self._next is not None:
            self._next.written.zero_()

    def state_dict(self) -> dict[str, object]:
        """The readable table, its shape and its format. Its tensors are the history's own, no copies."""
        readable = self._loaded or (self._previous if self._readable else None)
        tensors = (None,) * (len(self._format.fields) + 1) if readable is None else (*readable.fields, readable.written)
        return {**self._signature(), **dict(zip((*self._format.fields, "written"), tensors, strict=True))}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Load what `state_dict` gave, from any device.

        The tensors are copied when the tables are allocated, at the latest by the next `to`, `fetch`, read or write. Do
        not change them before.

        Raises: ValueError: if the state has another shape, another format or other heads; the message describes both.
        """
        self.check_state_dict(state)
        found = self._tensors_of(state)
        self.discard()
        self._fetched = self._loaded = None
        self._readable = bool(found)
        if found and self._previous is not None:
            self._previous.copy_from(found[:-1], found[-1])
        elif found:
            self._loaded = _LoadedState(tuple(found[:-1]), found[-1])

    def check_state_dict(self, state: Mapping[str, object]) -> None:
        mine = self._signature()
        theirs = {key: state.get(key, AllClasses.OLDEST if key == "form" else None) for key in mine}
        if mine != theirs:
            raise ValueError(f"the saved history is {theirs}, this run needs {mine}")
        shapes = [(self.num_samples, *shape) for shape, _ in self._format.fields.values()] + [(self.num_samples,)]
        found = self._tensors_of(state)
        if found and [tuple(tensor.shape) for tensor in found] != shapes:
            raise ValueError(f"the saved history holds {[tuple(tensor.shape) for tensor in found]}, expected {shapes}")

    def _tensors_of(self, state: Mapping[str, object]) -> list[Tensor]:
        """A state's tensors, in the order of the format's fields and last `written`; empty for an empty history."""
        tensors = [state.get(key) for key in (*self._format.fields, "written")]
        return [tensor for tensor in tensors if isinstance(tensor, Tensor)]

    def to(self, device: torch.device | str) -> Self:
        """Allocate the tables for training on a device, or move them. Returns self.

        Raises: StorageError: if there is no room.
        """
        device = torch.empty(0, device=device).device  # "cuda" becomes "cuda:0" or another
        self._receive(wait=True)
        self._fetched = None
        if device != self._device:
            self._allocate(device)
        return self

    def _signature(self) -> dict[str, object]:
        return {
            "num_samples": self.num_samples,
            "num_classes": self.num_classes,
            "heads": list(self.heads),
            "form": self._format.name,  # saved histories have it under this key
        }

    @torch.no_grad()
    def _allocate(self, device: torch.device) -> None:
        """Allocate both tables for training on a device, and copy there what was loaded, read or written so far."""
        storage, why = choose_storage(self._storage_name, self.nbytes, device, self._folder)
        self._device = device
        if self._storage is not None and self._storage.description == storage.description:
            return
        if self._loaded is not None:
            self._loaded.check()
        before = self._loaded or self._previous
        previous, following = (PredictionTable.empty(self._format, self.num_samples, storage) for _ in range(2))
        if before is not None:
            previous.copy_from(before.fields, before.written)
        if self._next is not None:
            following.copy_from(self._next.fields, self._next.written)
        self._previous, self._next, self._storage, self._loaded = previous, following, storage, None
        _log.info("the history of predictions is kept %s: %s", storage.description, why)

    def _writable_table(self, device: torch.device) -> PredictionTable:
        """The table for writes; if there is none yet, it is allocated for training on `device`."""
        if self._next is None:
            self._allocate(device)
        assert self._next is not None
        return self._next

    def _is_elsewhere(self, device: torch.device) -> bool:
        """Whether the tables are allocated, and not on this device."""
        return self._next is not None and self._next.device != device

    def _read_rows(self, indices: Tensor) -> tuple[Tensor, ...]:
        """The stored fields, and last whether each row was written, on the device of the indices."""
        if self._fetched is not None and self._fetched.rows is not None and self._fetched.indices is indices:
            return self._fetched.rows
        if self._previous is None:
            self._allocate(indices.device)
        assert self._previous is not None
        if readable_now(indices) and indices is not self._checked:
            self._range.check(indices, now=True)
        rows = self._previous.read(self._clamp(indices).to(self._previous.device))
        return tuple(row.to(indices.device) for row in rows)

    def _receive(self, wait: bool = False) -> None:
        """Write the rows whose copies have arrived; with `wait`, all of them."""
        for indices, fields in self._copies.finished(wait):
            assert self._next is not None
            self._next.write(indices, fields)

    def _clamp(self, indices: Tensor) -> Tensor:
        """Indices that are valid rows; those in main memory were checked."""
        return indices if readable_now(indices) else self._range.clamp(indices)

    def _counts_within_batches(self) -> bool:
        """Whether more samples were written than the largest batch has, but only to the first rows.

        Called once per epoch; it waits for the device.
        """
        largest = self._largest_write
        if self._next is None or not largest < min(self.samples_written, self.num_samples):
            return False
        return not self._next.written[largest:].any()

    def _start_counting(self) -> None:
        self.samples_written = self._largest_write = 0
        self._range.clear()
