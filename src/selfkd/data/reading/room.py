"""Whether images fit in memory, said before any is taken: a system that has promised too much kills the process."""

from __future__ import annotations

from selfkd.errors import OptionError
from selfkd.main_memory import free_main_memory

__all__ = ["check_room", "check_sides"]

# Bytes of a pixel.
_DECODED = 4  # by PIL, in RGB
_IN_A_NETWORK = 128  # 64 maps of half the side in float32, before and after normalisation


def check_room(option: str, value: object, num_bytes: int, what: str) -> None:
    """Refuse what needs more memory than is free.

    Args:
        option: that asks for so much.
        value: of the option.
        num_bytes: that are needed at least.
        what: needs them, in words.
    Raises: OptionError: naming the option.
    """
    free = free_main_memory()
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
