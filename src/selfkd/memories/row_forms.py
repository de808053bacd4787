"""The forms in which predictions are kept: all classes, or the most probable ones.

Letters used in shapes: N samples, B of a batch, H heads, K classes, T classes kept.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from selfkd.errors import OptionError
from selfkd.memories.history_options import HistoryOptions

__all__ = ["AllClasses", "RowForm", "TopClasses", "chosen_form", "in_words"]

_DTYPES = {"float32": torch.float32, "float16": torch.float16}
_MOST_FOR_ALL_CLASSES = 4e9  # bytes of both generations
_TOP = 12  # keeps both generations of ImageNet's four heads below half a gigabyte
_LARGEST_INT16 = 2**15 - 1


class RowForm(ABC):
    """How one sample's predictions by all heads are stored.

    Attributes:
        name: by which a saved history is recognised.
        fields: name of each stored tensor to its shape for one sample, and its type.
    """

    name: str
    fields: Mapping[str, tuple[tuple[int, ...], torch.dtype]]

    @property
    def row_bytes(self) -> int:
        """Bytes of one sample, of which one says whether it was written."""
        return 1 + sum(math.prod(shape) * dtype.itemsize for shape, dtype in self.fields.values())

    def table_bytes(self, num_samples: int) -> int:
        """Bytes of two generations."""
        return 2 * num_samples * self.row_bytes

    @abstractmethod
    def encode(self, probabilities_BHK: Tensor) -> tuple[Tensor, ...]:
        """The stored tensors of a batch, on its device."""

    @abstractmethod
    def decode(self, fields: Sequence[Tensor]) -> Tensor:
        """Float32 probabilities `[B, H, K]` of stored tensors, on their device."""


class AllClasses(RowForm):
    """Every class's probability."""

    OLDEST = "all classes in float32"  # the form of histories that were saved before there were others

    def __init__(self, heads: int, num_classes: int, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.name = f"all classes in {str(dtype).removeprefix('torch.')}"
        self.fields = {"probabilities": ((heads, num_classes), dtype)}

    def encode(self, probabilities_BHK: Tensor) -> tuple[Tensor, ...]:
        return (probabilities_BHK.to(self.dtype),)

    def decode(self, fields: Sequence[Tensor]) -> Tensor:
        return fields[0].float()


class TopClasses(RowForm):
    """The probabilities of the most probable classes in half precision; the rest of the mass is spread evenly.

    Args:
        heads: H.
        num_classes: K.
        top_k: T, in [1, K).
    """

    def __init__(self, heads: int, num_classes: int, top_k: int) -> None:
        self.num_classes, self.top_k = num_classes, top_k
        self.name = f"top {top_k} classes in float16"
        self.class_dtype = torch.int16 if num_classes <= _LARGEST_INT16 else torch.int32
        kept = (heads, top_k)
        self.fields = {"values": (kept, torch.float16), "classes": (kept, self.class_dtype)}

    def encode(self, probabilities_BHK: Tensor) -> tuple[Tensor, ...]:
        values_BHT, classes_BHT = probabilities_BHK.topk(self.top_k, dim=2, sorted=False)
        return values_BHT.half(), classes_BHT.to(self.class_dtype)

    def decode(self, fields: Sequence[Tensor]) -> Tensor:
        values_BHT, classes_BHT = fields[0].float(), fields[1].long()
        rest_BH1 = (1 - values_BHT.sum(dim=2, keepdim=True)).clamp(min=0)  # rounding can bring the sum above 1
        evenly_BH1 = rest_BH1 / (self.num_classes - self.top_k)
        return evenly_BH1.expand(-1, -1, self.num_classes).scatter(2, classes_BHT, values_BHT)


def chosen_form(options: HistoryOptions, num_samples: int, num_classes: int, heads: int) -> tuple[RowForm, str]:
    """The form that the options ask for, and in words what it keeps and why.

    What is not said is decided by the sizes alone, never by the machine, since it is part of the experiment.

    Raises: OptionError: if `top_k` is not below the number of classes.
    """
    everything = AllClasses(heads, num_classes, _DTYPES[options.dtype])
    size = everything.table_bytes(num_samples)
    if options.top_k is None:
        top = TopClasses(heads, num_classes, _TOP) if num_classes > _TOP else everything
        if size <= _MOST_FOR_ALL_CLASSES or top.row_bytes >= everything.row_bytes:
            return everything, f"all {num_classes} classes in {options.dtype}"
        why = f"since all of them would take {in_words(size)} (history.top_k=0 keeps them)"
        return top, f"the top {_TOP} of {num_classes} classes, {why}"
    if options.top_k >= num_classes:
        raise OptionError(
            "history.top_k", options.top_k, f"below the number of classes, {num_classes}; 0 keeps all of them"
        )
    if options.top_k == 0:
        return everything, f"all {num_classes} classes in {options.dtype}"
    top = TopClasses(heads, num_classes, options.top_k)
    return top, f"the top {options.top_k} of {num_classes} classes; all of them would take {in_words(size)}"


def in_words(size: int | float) -> str:
    """A number of bytes."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 / 2.5 else f"{size / 1e6:.2f} MB"
