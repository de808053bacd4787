"""Where the history's tables are stored: on the device that trains, in main memory, or in files."""

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
from selfkd.memories.history_options import StorageName
from selfkd.memories.row_formats import readable_size
from selfkd.process_group import process_count

__all__ = ["DeviceStorage", "FileStorage", "HostStorage", "Storage", "choose_storage", "describe_storage"]

_SHARE_OF_ACCELERATOR = 0.25
_SHARE_OF_MAIN_MEMORY = 0.5


class Storage(ABC):
    """Allocates tables.

    Attributes:
        description: "on cuda:0", "in main memory", ...
    """

    description: str

    @abstractmethod
    def zeros(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A new table of zeros.

        Raises: StorageError: if there is no room for it.
        """


class DeviceStorage(Storage):
    """The memory of the device that trains."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.description = "in main memory" if device.type == "cpu" else f"on {device}"

    def zeros(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.zeros(shape, dtype=dtype, device=self.device)


class HostStorage(Storage):
    """Main memory. The tables themselves are not page-locked: no other program could use that memory any more."""

    description = "in main memory"

    def zeros(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.zeros(shape, dtype=dtype)


class FileStorage(Storage):
    """Files that are mapped into memory. They have no name, so they vanish with the process, however it ends.

    Args:
        folder: where the files are; None for the system's folder for temporary files.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = Path(tempfile.gettempdir()) if folder is None else folder
        self.description = f"in files in {self.folder}"

    def zeros(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        size = torch.Size(shape).numel() * dtype.itemsize
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder) as file:
                _allocate(file.fileno(), size)
                mapped = mmap.mmap(file.fileno(), size)
        except OSError as error:
            raise StorageError(
                f"{self.folder} cannot hold {readable_size(size)} of the history of predictions ({error.strerror}); "
                "free some space, keep fewer classes (history.top_k), or keep it in memory (history.storage=pinned)"
            ) from error
        if hasattr(mapped, "madvise"):
            mapped.madvise(mmap.MADV_RANDOM)  # rows are read in the order of shuffled samples
        return torch.frombuffer(mapped, dtype=dtype).view(shape)


def _allocate(file: int, size: int) -> None:
    """Reserve the space now: on a full disk, a later write to mapped memory would end the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:
        os.ftruncate(file, size)


_STORAGES: Mapping[str, Callable[[torch.device, Path | None], Storage]] = {
    "device": lambda device, folder: DeviceStorage(device),
    "pinned": lambda device, folder: HostStorage(),
    "memmap": lambda device, folder: FileStorage(folder),
}


def describe_storage(name: StorageName, folder: Path | None) -> str:
    """Where tables will be stored, in words, before the device that trains is known."""
    descriptions = {
        "auto": "on the device that trains if there is room",
        "device": "on the device that trains",
        "pinned": HostStorage.description,
        "memmap": FileStorage(folder).description,
    }
    return descriptions[name]


def choose_storage(name: StorageName, size: int, device: torch.device, folder: Path | None) -> tuple[Storage, str]:
    """The storage for tables of `size` bytes when `device` trains, and the reason for it in words."""
    if name != "auto":
        return _STORAGES[name](device, folder), f"history.storage={name}"
    memory, in_memory = _free_main_memory_per_process(), "of free main memory"
    on_accelerator = device.type == "cuda"
    candidates = [
        ("device", torch.cuda.mem_get_info(device)[0], _SHARE_OF_ACCELERATOR, f"free on {device}")
        if on_accelerator
        else ("device", memory, _SHARE_OF_MAIN_MEMORY, in_memory),
        ("pinned", memory, _SHARE_OF_MAIN_MEMORY, in_memory),
    ]
    for candidate, free, share, where in candidates:
        if size <= share * free:
            return _STORAGES[candidate](device, folder), f"at most {share:.0%} of the {readable_size(free)} {where}"
    _, free, share, where = candidates[-1]
    return _STORAGES["memmap"](device, folder), f"more than {share:.0%} of the {readable_size(free)} {where}"


def _free_main_memory_per_process() -> float:
    """Bytes that each process on this machine may still take; infinite if the system does not say."""
    free = free_main_memory()
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", process_count()))
    return math.inf if free is None else free / processes
