"""Checks that images fit in memory, before any is allocated: a system without memory kills the process."""

from __future__ import annotations

from selfkd.errors import OptionError
from selfkd.main_memory import free_main_memory

__all__ = ["check_image_fits", "check_memory"]

# Bytes of a pixel.
_DECODED = 4  # by PIL, in RGB
_IN_A_NETWORK = 128  # 64 maps of half the side in float32, before and after normalisation


def check_memory(option: str, value: object, num_bytes: int, what: str) -> None:
    """Refuse an option whose value needs more memory than is free.

    Args:
        option: name of the option.
        value: value of the option.
        num_bytes: number of bytes that are needed at least.
        what: what needs them, in words.
    Raises: OptionError: naming the option.
    """
    free = free_main_memory()
    if free is not None and num_bytes > free:
        gigabytes = f"{num_bytes / 1e9:,.1f} GB" if num_bytes < 1e18 else "billions of GB"
        reason = f"{what} takes {gigabytes}, but only {free / 1e9:.1f} GB are free; choose a smaller value"
        raise OptionError(option, value, reason=reason)


def check_image_fits(image_size: int | None, resize: int | None) -> None:
    """Refuse sizes for which one image alone is too large to be scaled or given to a network.

    Args:
        image_size: the option `data.image_size`, side of the network's input in pixels; None if it was not given.
        resize: the option `data.resize`, length in pixels of a scaled image's shorter side; None if it was not given.
    Raises: OptionError: naming the option.
    """
    if image_size is not None:
        what = f"one image of {image_size}x{image_size} pixels in a small network"
        check_memory("data.image_size", image_size, _IN_A_NETWORK * image_size**2, what)
    if resize is not None:
        what = f"one image scaled to {resize}x{resize} pixels"
        check_memory("data.resize", resize, _DECODED * resize**2, what)
