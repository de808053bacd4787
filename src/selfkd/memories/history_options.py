"""Options of the history: how much of the predictions it keeps, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from selfkd.option_checks import at_least, one_of

__all__ = ["HistoryOptions", "StorageName"]

StorageName = Literal["auto", "device", "pinned", "memmap"]
_STORAGES = ("auto", "device", "pinned", "memmap")
_DTYPES = ("float32", "float16")


@dataclass(frozen=True, kw_only=True)
class HistoryOptions:
    """How a method that learns from its own last predictions keeps them.

    Args:
        storage: where the predictions are kept. "device" is the memory of the device that trains. "pinned" is main
            memory; each batch is copied through page-locked buffers. "memmap" is files in the run's folder, which no
            other process sees. "auto" takes the first of them that has room. The results are the same for all.
        top_k: number of most probable classes to keep of each prediction, in half precision. The rest of the
            probability is spread evenly over the other classes. 0 keeps all classes. By default all classes are kept if
            they take at most 4 GB, else the top 12.
        dtype: number format, if all classes are kept.
    Raises: OptionError: if a value is not allowed.
    """

    storage: StorageName = "auto"
    top_k: int | None = None
    dtype: Literal["float32", "float16"] = "float32"

    def __post_init__(self) -> None:
        one_of("history.storage", self.storage, _STORAGES)
        one_of("history.dtype", self.dtype, _DTYPES)
        if self.top_k is not None:
            at_least("history.top_k", self.top_k, 0)
