"""The checks of every batch of a method."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from selfkd.contract import Batch, DatasetInfo, Needs
from selfkd.errors import BatchError
from selfkd.eval_mode import eval_mode
from selfkd.value_ranges import IndexRange, RecordedRange, readable_now

if TYPE_CHECKING:
    from selfkd.methods.base import Method

__all__ = ["BatchChecks", "check_normalised_values"]

_TOLERANCE = 1e-2  # of the sum of soft labels, which may come in half precision
_LABEL_ADVICE = "classes are numbered from 0; leave a sample without a class out of the batch"
_SUM_ADVICE = "the probabilities of a soft label are >= 0 and sum to 1"


class BatchChecks:
    """Checks shapes, types and labels of a method's batches, and indices if no history checks them.

    Labels in main memory are checked at once. Labels on a device are checked at once in the first batch. In later
    batches only their extremes are recorded, until `check_recorded`, so that no step waits. Until then a class outside
    [0, K) is replaced by the nearest class, because a device fails on it with an error that names neither label nor
    batch. Indices on a device are treated in the same way, and recorded from the first batch on.

    Args:
        name: name of the method, for messages.
        needs: what the method needs.
        data: facts about the training set.
    """

    def __init__(self, name: str, needs: Needs, data: DatasetInfo) -> None:
        self.name, self.needs, self.num_classes = name, needs, data.num_classes
        self._first = True
        self._classes = RecordedRange(0, self.num_classes - 1, self._wrong_class)
        self._probabilities = RecordedRange(0, math.inf, self._wrong_probability)
        self._sums = RecordedRange(1 - _TOLERANCE, 1 + _TOLERANCE, self._wrong_sum)
        self._indices = IndexRange(data.num_samples)
        self._ranges = (self._classes, self._probabilities, self._sums, self._indices)

    def __call__(self, batch: Batch) -> Batch:
        """The batch, with labels that a device can compute with.

        Raises: BatchError: if a shape or a type is wrong, or a label that can be read now; the message names the
            sample.
        """
        self._check_types(batch)
        self._check_sizes(batch)
        if self._first or readable_now(batch.labels):
            self._check_labels(batch)
            self._first = False
        if readable_now(batch.labels):
            return batch
        with self._cleared_on_error():
            if batch.labels.ndim == 2:
                self._probabilities.record(batch.labels)
                self._sums.record(batch.labels.float().sum(dim=1))
                return batch
            self._classes.record(batch.labels)
        return replace(batch, labels=batch.labels.clamp(0, self.num_classes - 1))

    def check_indices(self, batch: Batch) -> Batch:
        """The batch, with indices that a device can compute with; for a method that needs them.

        A history checks its indices itself, so a method with a history does not need this.

        Raises: BatchError: if an index in main memory is out of range.
        """
        assert batch.indices is not None  # __call__ has checked this
        known = batch.indices if batch.host_indices is None else batch.host_indices
        if readable_now(known):
            self._indices.check(known, now=True)
        else:
            with self._cleared_on_error():
                self._indices.check(known, now=False)
        if readable_now(batch.indices):
            return batch
        return replace(batch, indices=self._indices.clamp(batch.indices))

    def check_recorded(self) -> None:
        """Check the batches recorded since the last check. Waits for the device if there are any.

        Raises: BatchError: naming the label or index and the number of its batch since `clear`. Drops all records.
        """
        with self._cleared_on_error():
            for value_range in self._ranges:
                value_range.check_recorded()

    def clear(self) -> None:
        """Drop all records: an epoch begins."""
        for value_range in self._ranges:
            value_range.clear()

    @contextmanager
    def _cleared_on_error(self) -> Iterator[None]:
        """Drop all records after an error: they belong to the same spoilt epoch, and often to the same sample."""
        try:
            yield
        except BatchError:
            self.clear()
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
                f"these are {list(labels.shape)} {_short_name(labels.dtype)}"
            )
        for field, indices in _indices_of(batch):
            if indices.ndim != 1 or indices.dtype != torch.int64:
                raise BatchError(
                    f"{name} takes {field} [B] int64; these are {list(indices.shape)} {_short_name(indices.dtype)}"
                )
        on_device = {"labels": labels, "indices": batch.indices if self.needs.sample_index else None}
        for field, tensor in on_device.items():
            if tensor is not None and tensor.device != images.device:
                raise BatchError(
                    f"{name}: the images are on {images.device}, the {field} on {tensor.device}; see selfkd.Batch.to"
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
        for field, indices in _indices_of(batch):
            if len(indices) != samples:
                raise BatchError(f"{name}: {len(indices)} {field} for {samples} labels")
        if labels.ndim == 2 and labels.shape[1] != self.num_classes:
            raise BatchError(f"{name}: soft labels of {labels.shape[1]} classes, the data has {self.num_classes}")
        if samples % (1 + followers):
            raise BatchError(
                f"{name} needs same_class={followers}: a batch holds anchors, then {followers} followers for each "
                f"anchor (see selfkd.Batch); {samples} labels cannot be divided like that"
            )

    def _check_labels(self, batch: Batch) -> None:
        labels = batch.labels.cpu()
        if labels.ndim == 1:
            wrong = ((labels < 0) | (labels >= self.num_classes)).nonzero()
            problem = f"lies outside [0, {self.num_classes}); {_LABEL_ADVICE}"
        else:
            total_B = labels.float().sum(dim=1)
            wrong = (~((total_B - 1).abs() < _TOLERANCE) | (labels < 0).any(dim=1)).nonzero()
            problem = f"is not a distribution: {_SUM_ADVICE}"
        if len(wrong):
            raise _wrong_label(batch, int(wrong[0]), problem)
        if not self.needs.same_class:
            return
        labels_SAK = batch.unstacked(labels.reshape(len(labels), -1))[0]
        different = (labels_SAK != labels_SAK[:1]).any(dim=2).flatten().nonzero()
        if len(different):
            position = int(different[0])
            problem = f"differs from that of its anchor, at position {position % batch.anchors} of the batch"
            raise _wrong_label(batch, position, problem)

    def _wrong_class(self, value: float, number: int) -> BatchError:
        return BatchError(
            f"label {value} in batch {number} of the epoch lies outside [0, {self.num_classes}); {_LABEL_ADVICE}"
        )

    def _wrong_probability(self, value: float, number: int) -> BatchError:
        return BatchError(
            f"a soft label in batch {number} of the epoch has a probability of {value:.4g}; {_SUM_ADVICE}"
        )

    def _wrong_sum(self, value: float, number: int) -> BatchError:
        return BatchError(f"a soft label in batch {number} of the epoch sums to {value:.4g}; {_SUM_ADVICE}")


def check_normalised_values(method: Method, image: Tensor) -> None:
    """Refuse to train with one image if a layer would normalise a single value of each channel over the batch.

    A pass in eval mode, which changes nothing, finds the layers that `predict` reaches. Batch normalisation over
    several processes is left out, because the other processes may have images, too.

    Args:
        method: the method, in training mode. Layers in eval mode do not normalise over the batch.
        image: `[1, 3, H, W]`.
    Raises: BatchError: naming the first such layer.
    """
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    training = {name: each for name, each in method.named_modules() if isinstance(each, kinds) and each.training}
    single: list[nn.Module] = []

    def look(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0].numel() == inputs[0].shape[1]:
            single.append(layer)

    handles = [layer.register_forward_pre_hook(look) for layer in training.values()]
    try:
        with torch.no_grad(), eval_mode(method):
            method.predict(image)
    finally:
        for handle in handles:
            handle.remove()
    if single:
        name = next(name for name, layer in training.items() if layer is single[0])
        raise BatchError(
            f"{type(method).__name__} normalises over the batch, and its layer {name} has one value for each image and "
            "channel: a training batch needs at least 2 samples"
        )


def _indices_of(batch: Batch) -> Iterator[tuple[str, Tensor]]:
    """The batch's index tensors, with the names of their fields."""
    for name, indices in (("indices", batch.indices), ("host_indices", batch.host_indices)):
        if indices is not None:
            yield name, indices


def _wrong_label(batch: Batch, position: int, problem: str) -> BatchError:
    sample = position if batch.indices is None else int(batch.indices[position])
    label = f"label {int(batch.labels[position])}" if batch.labels.ndim == 1 else "the soft label"
    return BatchError(f"{label} of sample {sample} {problem}")


def _short_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
