"""Where tables of predictions live: on the device that trains, in main memory, in files."""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from selfkd.errors import StorageError
from selfkd.main_memory import free_main_memory
from selfkd.memories.history_options import Storage
from selfkd.memories.row_forms import in_words
from selfkd.process_group import process_count

__all__ = ["Files", "MainMemory", "OnDevice", "Place", "chosen_place", "place_in_words"]

_SHARE_OF_ACCELERATOR = 0.25
_SHARE_OF_MAIN_MEMORY = 0.5


class Place(ABC):
    """Gives tables of zeros.

    Attributes:
        words: "on cuda:0", "in main memory", ...
    """

    words: str

    @abstractmethod
    def zeros(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A table of its own storage.

        Raises: StorageError: if it does not fit.
        """


class OnDevice(Place):
    """The memory of the device that trains."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.words = "in main memory" if device.type == "cpu" else f"on {device}"

    def zeros(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.zeros(shape, dtype=dtype, device=self.device)


class MainMemory(Place):
    """Main memory, whatever trains. Not page-locked itself, which would take it from everybody else for good."""

    words = "in main memory"

    def zeros(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.zeros(shape, dtype=dtype)


class Files(Place):
    """Files without a name in a folder, mapped into memory: they go with the process, however that ends.

    Args:
        folder: on a disk that holds them; by default the system's folder for temporary files.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = Path(tempfile.gettempdir()) if folder is None else folder
        self.words = f"in files in {self.folder}"

    def zeros(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        size = torch.Size(shape).numel() * dtype.itemsize
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder) as file:
                _allocate(file.fileno(), size)
                mapped = mmap.mmap(file.fileno(), size)
        except OSError as error:
            raise StorageError(
                f"{self.folder} cannot hold {in_words(size)} of the history of predictions ({error.strerror}); "
                "free some space, keep fewer classes (history.top_k), or keep it in memory (history.storage=pinned)"
            ) from error
        if hasattr(mapped, "madvise"):
            mapped.madvise(mmap.MADV_RANDOM)  # rows are read in the order of shuffled samples
        return torch.frombuffer(mapped, dtype=dtype).view(shape)


def _allocate(file: int, size: int) -> None:
    """Reserve the space now: with none left, a later write to mapped memory would end the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:
        os.ftruncate(file, size)


_PLACES: Mapping[str, Callable[[torch.device, Path | None], Place]] = {
    "device": lambda device, folder: OnDevice(device),
    "pinned": lambda device, folder: MainMemory(),
    "memmap": lambda device, folder: Files(folder),
}


def place_in_words(storage: Storage, folder: Path | None) -> str:
    """Where tables will live, before the device that trains is known."""
    known = {
        "auto": "on the device that trains if there is room",
        "device": "on the device that trains",
        "pinned": MainMemory.words,
        "memmap": Files(folder).words,
    }
    return known[storage]


def chosen_place(storage: Storage, size: int, device: torch.device, folder: Path | None) -> tuple[Place, str]:
    """Where tables of `size` bytes live for training on `device`, and in words why."""
    if storage != "auto":
        return _PLACES[storage](device, folder), f"history.storage={storage}"
    memory, in_memory = _share_of_free_main_memory(), "of free main memory"
    on_accelerator = device.type == "cuda"
    rooms = [
        ("device", torch.cuda.mem_get_info(device)[0], _SHARE_OF_ACCELERATOR, f"free on {device}")
        if on_accelerator
        else ("device", memory, _SHARE_OF_MAIN_MEMORY, in_memory),
        ("pinned", memory, _SHARE_OF_MAIN_MEMORY, in_memory),
    ]
    for name, free, share, where in rooms:
        if size <= share * free:
            return _PLACES[name](device, folder), f"at most {share:.0%} of the {in_words(free)} {where}"
    _, free, share, where = rooms[-1]
    return _PLACES["memmap"](device, folder), f"more than {share:.0%} of the {in_words(free)} {where}"


def _share_of_free_main_memory() -> float:
    """Bytes that one of the processes on this machine may still take; infinite where nobody says."""
    free = free_main_memory()
    sharing = int(os.environ.get("LOCAL_WORLD_SIZE", process_count()))
    return math.inf if free is None else free / sharing
