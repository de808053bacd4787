"""How much of the past predictions is kept, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from selfkd.option_checks import at_least, one_of

__all__ = ["HistoryOptions", "Storage"]

Storage = Literal["auto", "device", "pinned", "memmap"]
_STORAGES = ("auto", "device", "pinned", "memmap")
_DTYPES = ("float32", "float16")


@dataclass(frozen=True, kw_only=True)
class HistoryOptions:
    """What is kept of the predictions of the last epoch, for methods that learn from them.

    Args:
        storage: where the history is kept: on the "device" that trains; "pinned" in main memory, from where the rows of
            a batch travel through page-locked buffers; "memmap" in files in the run's folder, which no other process
            sees; "auto" takes the first that has room. It changes no result.
        top_k: the k most probable classes of every prediction, in half precision, the rest of the mass spread evenly
            over the others; 0 keeps all classes. By default all where that takes at most 4 GB, else the top 12.
        dtype: type of the numbers, where all classes are kept.
    Raises: OptionError: if a value is not allowed.
    """

    storage: Storage = "auto"
    top_k: int | None = None
    dtype: Literal["float32", "float16"] = "float32"

    def __post_init__(self) -> None:
        one_of("history.storage", self.storage, _STORAGES)
        one_of("history.dtype", self.dtype, _DTYPES)
        if self.top_k is not None:
            at_least("history.top_k", self.top_k, 0)
