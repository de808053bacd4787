"""The soft-label history: two generations of predictions, in the form and the place that suit their size."""

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
from selfkd.memories.exchange import share_writes
from selfkd.memories.generations import Generation, in_chunks
from selfkd.memories.history_options import HistoryOptions
from selfkd.memories.places import Place, chosen_place, place_in_words
from selfkd.memories.row_forms import AllClasses, chosen_form, in_words
from selfkd.memories.transfers import Arrivals, sent
from selfkd.option_checks import at_least
from selfkd.process_group import process_count
from selfkd.value_ranges import IndexRange, at_hand

__all__ = ["History"]

_log = logging.getLogger("selfkd")


class _Saved:
    """A loaded state that has no place yet, and how often its tensors had been written to when it was loaded."""

    def __init__(self, fields: tuple[Tensor, ...], written: Tensor) -> None:
        self.fields, self.written = fields, written
        self._versions = self._current_versions()

    def check(self) -> None:
        if self._versions != self._current_versions():
            raise RuntimeError(
                "the state given to History.load_state_dict was changed before the history had its place; "
                "call to(device) at once, or load a copy of the state"
            )

    def _current_versions(self) -> list[int]:
        return [tensor._version for tensor in (*self.fields, self.written)]


@dataclass(frozen=True)
class _Batch:
    """Where a batch is found, on both sides, and its rows where they had to be brought."""

    indices: Tensor
    host_indices: Tensor
    rows: tuple[Tensor, ...] | None


class History(Memory):
    """Predictions of the previous epoch, by sample index, for several heads.

    Two generations are kept: reads see what was written before the last `commit`, writes go to the next generation.
    A killed epoch can therefore be replayed from its start, and a sample drawn twice in one epoch reads the same row
    both times. A row that an epoch does not write keeps its older value; a row never written reads as the label.

    It is no module buffer on purpose: data-parallel training broadcasts buffers and would undo other ranks' writes;
    processes exchange what they wrote in `commit`, which all of them call. Tables are allocated by `to`, or by the
    first write, on its device. No call waits for the device, except `guard`, `commit` once per epoch, and reads and
    writes of tables in main memory where `fetch` was not told the indices there.

    An index outside [0, num_samples) is refused at once where the indices are in main memory. One that only a device
    knows is noted, read and written as the nearest one inside, and refused by `guard`, at the latest by `commit`:
    before anything that was written beside it can be read.

    Args:
        num_samples: size of the training set, >= 1.
        num_classes: K, >= 2.
        heads: names of the heads, in storage order.
        options: form and place; by default all classes in float32 up to 4 GB, wherever there is room.
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
        self._previous: Generation | None = None
        self._next: Generation | None = None
        self._place: Place | None = None
        self._device: torch.device | None = None  # that trains
        self._saved: _Saved | None = None
        self._batch: _Batch | None = None
        self._arrivals = Arrivals()
        self._readable = False  # nothing was ever written before a `commit`
        self._largest_write = 0  # samples, since the last `commit`
        self._checked: Tensor | None = None  # the indices that were checked last
        self._range = IndexRange(self.num_samples)
        self.configure(options or HistoryOptions())

    def configure(self, options: HistoryOptions, folder: Path | None = None) -> None:
        """Choose form and place, before anything is written or loaded.

        Args:
            options: form and place.
            folder: where files would lie; by default the system's folder for temporary files.
        Raises:
            OptionError: if `top_k` is not below the number of classes.
            UserError: if something was written or loaded.
        """
        if self.samples_written or self._readable:
            raise UserError("a history is configured before anything is written to it or loaded into it")
        self._form, self._kept = chosen_form(options, self.num_samples, self.num_classes, len(self.heads))
        self._storage, self._folder = options.storage, folder
        self._previous = self._next = self._place = self._device = None

    @property
    def is_empty(self) -> bool:
        """Whether no epoch has left anything to read."""
        return not self._readable

    @property
    def nbytes(self) -> int:
        """Bytes that both generations take once allocated."""
        return self._form.table_bytes(self.num_samples)

    def described(self) -> str:
        """Its size, place and form, and why that form."""
        where = place_in_words(self._storage, self._folder) if self._place is None else self._place.words
        return f"the history of predictions takes {in_words(self.nbytes)} {where}: {self._kept}"

    def fetch(self, indices: Tensor, host_indices: Tensor | None = None) -> None:
        """Check a batch's indices and, where the tables are not on its device, bring the rows that `read` will want.

        A method's call does this; nobody need: without it, reads and writes wait for the device to tell the indices.

        Args:
            indices: `[B]` int64 in [0, num_samples), the tensor that `read` and `write` will get.
            host_indices: the same in main memory; asked of the device where not given and needed there.
        Raises: BatchError: if an index that is in main memory is out of range.
        """
        if self._saved is not None:
            self._settle(indices.device)
        self._batch = None
        apart = self._is_apart(indices.device)
        if apart and (host_indices is None or not at_hand(host_indices)):
            host_indices = indices.cpu()
        known = indices if host_indices is None else host_indices
        self._range.check(known, now=at_hand(known))
        self._checked = indices
        if not apart:
            return
        assert host_indices is not None
        rows = None
        if self._readable and self._previous is not None:
            rows = sent(self._previous.rows(host_indices), indices.device)
        self._batch = _Batch(indices, host_indices, rows)

    def read(self, indices: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Each head's prediction in the previous epoch.

        Args:
            indices: `[B]` int64 in [0, num_samples).
            labels: `[B]` int64, or soft `[B, K]`: what rows never written read as.
        Returns: head name to `[B, K]` float32 probabilities without gradient.
        """
        label_BK = label_probabilities(labels, self.num_classes)
        if not self._readable:
            return dict.fromkeys(self.heads, label_BK)
        *fields, known_B = self._rows(indices)
        read_BHK = torch.where(known_B[:, None, None], self._form.decode(fields), label_BK[:, None, :])
        return {head: read_BHK[:, position] for position, head in enumerate(self.heads)}

    @torch.no_grad()
    def write(self, indices: Tensor, probabilities: Mapping[str, Tensor], host_indices: Tensor | None = None) -> None:
        """Remember this epoch's predictions; they are read after the next `commit`.

        Args:
            indices: `[B]` int64 in [0, num_samples); of repeated indices, one wins.
            probabilities: every head's `[B, K]` after softmax.
            host_indices: the same indices in main memory; not needed where `fetch` was told them.
        Raises:
            ValueError: if a head is missing or unknown.
            BatchError: if an index that is in main memory is out of range.
            StorageError: if this allocates the tables, and they do not fit.
        """
        if set(probabilities) != set(self.heads):
            raise ValueError(f"History has the heads {self.heads}, got {tuple(probabilities)}")
        fields = self._form.encode(torch.stack([probabilities[head].detach() for head in self.heads], dim=1))
        device = fields[0].device
        writable = self._settled(device)
        if self._is_apart(device):
            if self._batch is not None and self._batch.indices is indices:
                host_indices = self._batch.host_indices
            else:
                if host_indices is None or not at_hand(host_indices):
                    host_indices = indices.cpu()
                self._range.check(host_indices, now=at_hand(host_indices))
            self._arrivals.ask(host_indices, fields)
            self._receive()
        else:
            if indices is not self._checked:
                self._range.check(indices, now=at_hand(indices))
            writable.put(self._inside(indices), fields)
        self._checked = None  # the same tensor may hold other indices next time
        self.samples_written += len(indices)
        self._largest_write = max(self._largest_write, len(indices))

    @torch.no_grad()
    def commit(self) -> None:
        """End the epoch: what was written, by any of the processes that train together, becomes what is read.

        Raises: BatchError: if an index was out of range, or the indices counted within their batches; what the epoch
            wrote is forgotten.
        """
        self._receive(wait=True)
        self._batch = self._checked = None
        self.guard()
        if self._counts_within_batches():
            samples, largest = self.samples_written, self._largest_write
            self.discard()
            raise BatchError(
                f"{samples} samples were seen in batches of at most {largest}, but no index was above {largest - 1}: "
                "the indices seem to count within the batch. They must be each sample's position in the training set "
                f"(DatasetInfo.num_samples={self.num_samples}; it is {largest} if one batch is the whole training set)"
            )
        wrote = self.samples_written > 0
        self._start_counting()
        if process_count() > 1:
            wrote = share_writes(self._settled(torch.device("cpu")), self._form.row_bytes)
        if not wrote:
            return
        assert self._previous is not None
        assert self._next is not None
        if self._readable:
            kept = (self._previous.written & ~self._next.written).nonzero(as_tuple=True)[0]
            for chunk in in_chunks(kept, self._form.row_bytes):
                self._next.put(chunk, [field[chunk] for field in self._previous.fields])
        self._previous, self._next = self._next, self._previous
        self._next.written.zero_()
        self._readable = True

    def guard(self) -> None:
        """Look at the indices that only a device knew; waits for it if there were any.

        Raises: BatchError: if one was out of range; what the epoch wrote is forgotten.
        """
        try:
            self._range.look()
        except BatchError:
            self.discard()
            raise

    @torch.no_grad()
    def discard(self) -> None:
        """Forget what the current epoch wrote: it is about to be replayed from its start."""
        self._start_counting()
        self._arrivals.forget()
        if self._next is not None:
            self._next.written.zero_()

    def state_dict(self) -> dict[str, object]:
        """The readable generation, its shape and its form, wherever it lives; complete after `commit`.

        Its tensors are those that are read, no copies.
        """
        readable = self._saved or (self._previous if self._readable else None)
        tensors = (None,) * (len(self._form.fields) + 1) if readable is None else (*readable.fields, readable.written)
        return {**self._signature(), **dict(zip((*self._form.fields, "written"), tensors, strict=True))}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Restore what `state_dict` gave, from whatever place.

        The tensors are copied when the tables have their place, at the latest by the next `to`, `fetch`, read or write;
        until then they must stay as they are.

        Raises: ValueError: if the state is of another shape or form, or of other heads (the message names both).
        """
        self.check_state_dict(state)
        found = self._tensors_of(state)
        self.discard()
        self._batch = self._saved = None
        self._readable = bool(found)
        if found and self._previous is not None:
            self._previous.take_over(found[:-1], found[-1])
        elif found:
            self._saved = _Saved(tuple(found[:-1]), found[-1])

    def check_state_dict(self, state: Mapping[str, object]) -> None:
        mine = self._signature()
        theirs = {key: state.get(key, AllClasses.OLDEST if key == "form" else None) for key in mine}
        if mine != theirs:
            raise ValueError(f"the saved history is {theirs}, this run needs {mine}")
        shapes = [(self.num_samples, *shape) for shape, _ in self._form.fields.values()] + [(self.num_samples,)]
        found = self._tensors_of(state)
        if found and [tuple(tensor.shape) for tensor in found] != shapes:
            raise ValueError(f"the saved history holds {[tuple(tensor.shape) for tensor in found]}, expected {shapes}")

    def _tensors_of(self, state: Mapping[str, object]) -> list[Tensor]:
        """The tables in a state, in the order of the form's fields, last what was written; none of an empty history."""
        tensors = [state.get(key) for key in (*self._form.fields, "written")]
        return [tensor for tensor in tensors if isinstance(tensor, Tensor)]

    def to(self, device: torch.device | str) -> Self:
        """Give the tables their place for training on a device, or move them there; returns self.

        Raises: StorageError: if they do not fit.
        """
        device = torch.empty(0, device=device).device  # "cuda" is one of them
        self._receive(wait=True)
        self._batch = None
        if device != self._device:
            self._settle(device)
        return self

    def _signature(self) -> dict[str, object]:
        return {
            "num_samples": self.num_samples,
            "num_classes": self.num_classes,
            "heads": list(self.heads),
            "form": self._form.name,
        }

    @torch.no_grad()
    def _settle(self, device: torch.device) -> None:
        """Allocate both generations for training on a device, and bring there what there is."""
        place, why = chosen_place(self._storage, self.nbytes, device, self._folder)
        self._device = device
        if self._place is not None and self._place.words == place.words:
            return
        if self._saved is not None:
            self._saved.check()
        before = self._saved or self._previous
        previous, following = (Generation.empty(self._form, self.num_samples, place) for _ in range(2))
        if before is not None:
            previous.take_over(before.fields, before.written)
        if self._next is not None:
            following.take_over(self._next.fields, self._next.written)
        self._previous, self._next, self._place, self._saved = previous, following, place, None
        _log.info("the history of predictions is kept %s: %s", place.words, why)

    def _settled(self, device: torch.device) -> Generation:
        """The generation to be written; where it has no place yet, one for training on `device`."""
        if self._next is None:
            self._settle(device)
        assert self._next is not None
        return self._next

    def _is_apart(self, device: torch.device) -> bool:
        """Whether the tables are elsewhere than on the device that trains."""
        return self._next is not None and self._next.device != device

    def _rows(self, indices: Tensor) -> tuple[Tensor, ...]:
        """Stored fields and whether written, on the device of the indices."""
        if self._batch is not None and self._batch.rows is not None and self._batch.indices is indices:
            return self._batch.rows
        if self._previous is None:
            self._settle(indices.device)
        assert self._previous is not None
        if at_hand(indices) and indices is not self._checked:
            self._range.check(indices, now=True)
        rows = self._previous.rows(self._inside(indices).to(self._previous.device))
        return tuple(row.to(indices.device) for row in rows)

    def _receive(self, wait: bool = False) -> None:
        for indices, fields in self._arrivals.arrived(wait):
            assert self._next is not None
            self._next.put(indices, fields)

    def _inside(self, indices: Tensor) -> Tensor:
        """Indices that cannot leave the tables."""
        return indices if at_hand(indices) else self._range.inside(indices)

    def _counts_within_batches(self) -> bool:
        """Whether nothing was written beyond the rows that the largest batch has, although there were more samples.

        Asked once per epoch, and the only question about it that waits for the device.
        """
        largest = self._largest_write
        if self._next is None or not largest < min(self.samples_written, self.num_samples):
            return False
        return not self._next.written[largest:].any()

    def _start_counting(self) -> None:
        self.samples_written = self._largest_write = 0
        self._range.forget()
