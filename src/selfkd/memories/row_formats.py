"""The formats in which predictions are stored: all classes, or the most probable ones.

Letters used in shapes: N samples, B batch, H heads, K classes, T classes kept.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from selfkd.errors import OptionError
from selfkd.memories.history_options import HistoryOptions

__all__ = ["AllClasses", "RowFormat", "TopClasses", "choose_format", "readable_size"]

_DTYPES = {"float32": torch.float32, "float16": torch.float16}
_MOST_FOR_ALL_CLASSES = 4e9  # bytes of both tables
_TOP = 12  # with it both tables of ImageNet's four heads take less than half a gigabyte
_LARGEST_INT16 = 2**15 - 1


class RowFormat(ABC):
    """How the predictions of all heads for one sample are stored.

    Attributes:
        name: stands in a saved history, which loads into the same format alone.
        fields: name of each stored tensor to its shape for one sample and its type.
    """

    name: str
    fields: Mapping[str, tuple[tuple[int, ...], torch.dtype]]

    @property
    def row_bytes(self) -> int:
        """Bytes of one sample; one of them says whether it was written."""
        return 1 + sum(math.prod(shape) * dtype.itemsize for shape, dtype in self.fields.values())

    def table_bytes(self, num_samples: int) -> int:
        """Bytes of the history's two tables."""
        return 2 * num_samples * self.row_bytes

    @abstractmethod
    def encode(self, probabilities_BHK: Tensor) -> tuple[Tensor, ...]:
        """The tensors to store for a batch, on its device."""

    @abstractmethod
    def decode(self, fields: Sequence[Tensor]) -> Tensor:
        """Float32 probabilities `[B, H, K]` from stored tensors, on their device."""


class AllClasses(RowFormat):
    """The probability of every class."""

    OLDEST = "all classes in float32"  # the only format of histories whose state names none

    def __init__(self, heads: int, num_classes: int, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.name = f"all classes in {str(dtype).removeprefix('torch.')}"
        self.fields = {"probabilities": ((heads, num_classes), dtype)}

    def encode(self, probabilities_BHK: Tensor) -> tuple[Tensor, ...]:
        return (probabilities_BHK.to(self.dtype),)

    def decode(self, fields: Sequence[Tensor]) -> Tensor:
        return fields[0].float()


class TopClasses(RowFormat):
    """The most probable classes, in half precision. The rest of the probability is spread evenly over the others.

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


def choose_format(options: HistoryOptions, num_samples: int, num_classes: int, heads: int) -> tuple[RowFormat, str]:
    """The format for these options, and in words what it keeps and why.

    The format is a part of the experiment, so its default depends on the sizes alone, never on the machine.

    Raises: OptionError: if `top_k` is not below the number of classes.
    """
    everything = AllClasses(heads, num_classes, _DTYPES[options.dtype])
    size = everything.table_bytes(num_samples)
    if options.top_k is None:
        top = TopClasses(heads, num_classes, _TOP) if num_classes > _TOP else everything
        if size <= _MOST_FOR_ALL_CLASSES or top.row_bytes >= everything.row_bytes:
            return everything, f"all {num_classes} classes in {options.dtype}"
        why = f"since all of them would take {readable_size(size)} (history.top_k=0 keeps them)"
        return top, f"the top {_TOP} of {num_classes} classes, {why}"
    if options.top_k >= num_classes:
        raise OptionError(
            "history.top_k", options.top_k, f"below the number of classes, {num_classes}; 0 keeps all of them"
        )
    if options.top_k == 0:
        return everything, f"all {num_classes} classes in {options.dtype}"
    top = TopClasses(heads, num_classes, options.top_k)
    return top, f"the top {options.top_k} of {num_classes} classes; all of them would take {readable_size(size)}"


def readable_size(size: int | float) -> str:
    """A number of bytes in MB or GB, as text."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 / 2.5 else f"{size / 1e6:.2f} MB"
