"""What every method asks of every batch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from selfkd.contract import Batch, DatasetInfo, Needs
from selfkd.errors import BatchError
from selfkd.value_ranges import DeferredRange, IndexRange, at_hand

__all__ = ["BatchChecks"]

_TOLERANCE = 1e-2  # of the sum of soft labels, which may come in half precision
_LABEL_ADVICE = "labels count the classes from 0, and a sample without a class is left out of the batch"
_SHARES_ADVICE = "the shares of a soft label are >= 0 and sum to 1"


class BatchChecks:
    """Form, labels and, where no history checks them, indices of one method's batches.

    Labels in main memory are looked at at once. Of labels that only a device holds, the first batch is looked at, and
    of later ones the extremes are noted until `look`, so that no step waits. A class outside [0, K) is handed on as
    the nearest one inside until then, because a device fails on it with an error that names neither label nor batch.
    So is an index, of which also the first batch's are noted.

    Args:
        name: of the method, for messages.
        needs: of the method.
        data: what is known of the training set.
    """

    def __init__(self, name: str, needs: Needs, data: DatasetInfo) -> None:
        self.name, self.needs, self.num_classes = name, needs, data.num_classes
        self._first = True
        self._classes = DeferredRange(0, self.num_classes - 1, self._wrong_class)
        self._shares = DeferredRange(0, math.inf, self._wrong_share)
        self._sums = DeferredRange(1 - _TOLERANCE, 1 + _TOLERANCE, self._wrong_sum)
        self._indices = IndexRange(data.num_samples)

    def __call__(self, batch: Batch) -> Batch:
        """The batch, its labels such that a device can compute with them.

        Raises: BatchError: if the form is wrong, or a label that can be looked at (the message names the sample).
        """
        self._check_types(batch)
        self._check_sizes(batch)
        if self._first or at_hand(batch.labels):
            self._check_labels(batch)
            self._first = False
        if at_hand(batch.labels):
            return batch
        with self._said_once():
            if batch.labels.ndim == 2:
                self._shares.note(batch.labels)
                self._sums.note(batch.labels.float().sum(dim=1))
                return batch
            self._classes.note(batch.labels)
        return replace(batch, labels=batch.labels.clamp(0, self.num_classes - 1))

    def check_indices(self, batch: Batch) -> Batch:
        """The batch, its indices such that a device can compute with them; for a method that needs them.

        A history checks the indices that it is given, so a method that has one does not need this.

        Raises: BatchError: if an index that is in main memory is out of range.
        """
        assert batch.indices is not None  # held by needs
        known = batch.indices if batch.host_indices is None else batch.host_indices
        if at_hand(known):
            self._indices.check(known, now=True)
        else:
            with self._said_once():
                self._indices.check(known, now=False)
        if at_hand(batch.indices):
            return batch
        return replace(batch, indices=self._indices.inside(batch.indices))

    def look(self) -> None:
        """Look at what was noted since the last time; waits for the device if there is anything.

        Raises: BatchError: naming the label or index and the number of its batch since `forget`; nothing stays noted.
        """
        with self._said_once():
            for noted in self._noted():
                noted.look()

    def forget(self) -> None:
        """Drop what was noted: an epoch begins."""
        for noted in self._noted():
            noted.forget()

    def _noted(self) -> tuple[DeferredRange | IndexRange, ...]:
        return self._classes, self._shares, self._sums, self._indices

    @contextmanager
    def _said_once(self) -> Iterator[None]:
        """With an error all notes go: they are of the epoch that it has spoilt, often of the same sample."""
        try:
            yield
        except BatchError:
            self.forget()
            raise

    def _check_types(self, batch: Batch) -> None:
        name, images, labels = self.name, batch.images, batch.labels
        if self.needs.sample_index and batch.indices is None:
            raise BatchError(
                f"{name} needs sample_index: Batch.indices is None; let the data set return each sample's position"
            )
        hard = labels.ndim == 1 and labels.dtype == torch.int64
        if not hard and not (labels.ndim == 2 and labels.is_floating_point()):
            raise BatchError(
                f"{name} takes labels [B] int64, or soft labels [B, K] of a floating type; "
                f"these are {list(labels.shape)} {_named(labels.dtype)}"
            )
        for words, indices in _indices_of(batch):
            if indices.ndim != 1 or indices.dtype != torch.int64:
                raise BatchError(
                    f"{name} takes {words} [B] int64; these are {list(indices.shape)} {_named(indices.dtype)}"
                )
        needed_there = {"labels": labels, "indices": batch.indices if self.needs.sample_index else None}
        for words, tensor in needed_there.items():
            if tensor is not None and tensor.device != images.device:
                raise BatchError(
                    f"{name}: the images are on {images.device}, the {words} on {tensor.device}; see selfkd.Batch.to"
                )

    def _check_sizes(self, batch: Batch) -> None:
        name, images, labels = self.name, batch.images, batch.labels
        samples, followers = labels.shape[0], self.needs.same_class
        if batch.views != self.needs.views:
            raise BatchError(f"{name} needs views={self.needs.views}, the batch has views={batch.views}")
        if batch.followers != followers:
            raise BatchError(f"{name} needs same_class={followers}, the batch has followers={batch.followers}")
        if samples == 0:
            raise BatchError(f"{name}: the batch is empty; leave out a batch without samples")
        if images.shape[0] != samples * batch.views:
            raise BatchError(f"{name}: {images.shape[0]} images for {samples} labels and {batch.views} views")
        for words, indices in _indices_of(batch):
            if len(indices) != samples:
                raise BatchError(f"{name}: {len(indices)} {words} for {samples} labels")
        if labels.ndim == 2 and labels.shape[1] != self.num_classes:
            raise BatchError(f"{name}: soft labels of {labels.shape[1]} classes, the data has {self.num_classes}")
        if samples % (1 + followers):
            raise BatchError(
                f"{name} needs same_class={followers}: {samples} labels do not divide into anchors and as many times "
                f"{followers} followers, anchors first (see selfkd.Batch)"
            )

    def _check_labels(self, batch: Batch) -> None:
        labels = batch.labels.cpu()
        if labels.ndim == 1:
            wrong = ((labels < 0) | (labels >= self.num_classes)).nonzero()
            said = f"lies outside [0, {self.num_classes}); {_LABEL_ADVICE}"
        else:
            total_B = labels.float().sum(dim=1)
            wrong = (~((total_B - 1).abs() < _TOLERANCE) | (labels < 0).any(dim=1)).nonzero()
            said = f"is no distribution: {_SHARES_ADVICE}"
        if len(wrong):
            raise _wrong_label(batch, int(wrong[0]), said)
        if not self.needs.same_class:
            return
        labels_SAK = batch.unstacked(labels.reshape(len(labels), -1))[0]
        strangers = (labels_SAK != labels_SAK[:1]).any(dim=2).flatten().nonzero()
        if len(strangers):
            position = int(strangers[0])
            said = f"differs from that of its anchor, at position {position % batch.anchors} of the batch"
            raise _wrong_label(batch, position, said)

    def _wrong_class(self, value: float, number: int) -> BatchError:
        return BatchError(
            f"label {value} in batch {number} of the epoch lies outside [0, {self.num_classes}); {_LABEL_ADVICE}"
        )

    def _wrong_share(self, value: float, number: int) -> BatchError:
        return BatchError(f"a soft label in batch {number} of the epoch has a share of {value:.4g}; {_SHARES_ADVICE}")

    def _wrong_sum(self, value: float, number: int) -> BatchError:
        return BatchError(f"a soft label in batch {number} of the epoch sums to {value:.4g}; {_SHARES_ADVICE}")


def _indices_of(batch: Batch) -> Iterator[tuple[str, Tensor]]:
    """Those that the batch has, by the names of their fields."""
    for words, indices in (("indices", batch.indices), ("host_indices", batch.host_indices)):
        if indices is not None:
            yield words, indices


def _wrong_label(batch: Batch, position: int, said: str) -> BatchError:
    sample = position if batch.indices is None else int(batch.indices[position])
    label = f"label {int(batch.labels[position])}" if batch.labels.ndim == 1 else "the soft label"
    return BatchError(f"{label} of sample {sample} {said}")


def _named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
