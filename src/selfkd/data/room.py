"""Whether images fit in memory, said before any is taken: a system that has promised too much kills the process."""

from __future__ import annotations

import os
from pathlib import Path

from selfkd.errors import OptionError

__all__ = ["check_room", "check_sides", "free_memory"]

_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))  # of a container
# Bytes of a pixel.
_DECODED = 4  # by PIL, in RGB
_IN_A_NETWORK = 128  # 64 maps of half the side in float32, before and after normalisation


def free_memory() -> int | None:
    """Bytes of main memory that can be had, at most; None where the system does not say."""
    known = [limit for limit in (_available(), *map(_container_limit, _LIMITS)) if limit is not None]
    return min(known, default=None)


def check_room(option: str, value: object, num_bytes: int, what: str) -> None:
    """Refuse what needs more memory than is free.

    Args:
        option: that asks for so much.
        value: of the option.
        num_bytes: that are needed at least.
        what: needs them, in words.
    Raises: OptionError: naming the option.
    """
    free = free_memory()
    if free is not None and num_bytes > free:
        gigabytes = f"{num_bytes / 1e9:,.1f} GB" if num_bytes < 1e18 else "billions of GB"
        raise OptionError(option, value, f"smaller: {what} takes {gigabytes}, and {free / 1e9:.1f} GB are free")


def check_sides(image_size: int | None, resize: int | None) -> None:
    """Refuse sizes of which not even one image could be scaled and given to a network.

    Args:
        image_size: the option `data.image_size`, side of the network's input in pixels; None if it was not given.
        resize: the option `data.resize`, to which an image's shorter side is scaled before; None if it was not given.
    Raises: OptionError: naming the option.
    """
    if image_size is not None:
        what = f"one image of {image_size}x{image_size} pixels in a small network"
        check_room("data.image_size", image_size, _IN_A_NETWORK * image_size**2, what)
    if resize is not None:
        what = f"one image scaled to {resize}x{resize} pixels"
        check_room("data.resize", resize, _DECODED * resize**2, what)


def _available() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            name, _, size = line.partition(":")
            if name == "MemAvailable":
                return int(size.split()[0]) * 1024
        return None
    except OSError:  # no Linux
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _container_limit(file: Path) -> int | None:
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):  # there is none, or it is "max"
        return None
