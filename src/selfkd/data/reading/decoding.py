"""Decodes images to RGB; an error names the image."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from selfkd.data.reading.regular_files import regular_status
from selfkd.errors import DataError

__all__ = ["UNREADABLE", "eight_bits", "open_image", "read_rgb", "to_rgb"]

UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""The errors for files that are no images, are damaged, or would take all memory."""

_LARGEST_16_BIT = 2**16 - 1


def read_rgb(file: Path | BinaryIO, where: str) -> Image.Image:
    """A decoded image; greyscale and other colour spaces become RGB.

    As in torchvision's ImageFolder, transparency is dropped and an EXIF orientation is ignored. Unlike there, 16 bits
    of grey are scaled to 8.

    Args:
        file: a path, or an encoded image.
        where: the place of the image, for the error.
    Raises: DataError: if it cannot be read.
    """
    try:
        with open_image(file) as image:
            return to_rgb(image)
    except UNREADABLE as error:
        raise DataError(f"{where}: not a readable image: {error}") from error


def open_image(file: Path | BinaryIO) -> Image.Image:
    """As `PIL.Image.open`, but pipes and other special files are refused, since PIL would wait. So is PostScript.

    Raises: UNREADABLE: if it is no image, or missing.
    """
    if isinstance(file, Path):
        regular_status(file)
    return Image.open(file, formats=_formats())


@cache
def _formats() -> tuple[str, ...]:
    """All formats that PIL reads, except PostScript: PIL would run it as a program, whatever the file's name."""
    Image.init()
    return tuple(name for name in Image.ID if name != "EPS")


def to_rgb(image: Image.Image) -> Image.Image:
    """A decoded image in RGB with 8 bits per channel.

    Raises: UNREADABLE: if it is damaged, or has more than 16 bits of grey.
    """
    return eight_bits(image).convert("RGB")


def eight_bits(image: Image.Image) -> Image.Image:
    """The same image with the upper 8 of 16 bits of grey. PIL would make all values above 255 white.

    Raises: ValueError: if it has more than 16 bits of grey.
    """
    if not image.mode.startswith(("I", "F")):
        return image
    grey = np.asarray(image)
    if image.mode == "F" or grey.min() < 0 or grey.max() > _LARGEST_16_BIT:
        kind = "floating-point numbers" if image.mode == "F" else "whole numbers outside [0, 65535]"
        raise ValueError(f"its pixels are {kind}; store it with 8 or 16 bits")
    return Image.fromarray((grey // 256).astype(np.uint8))
