"""Image files become RGB images, or an error that names them."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from PIL import Image

from selfkd.errors import DataError

__all__ = ["UNREADABLE", "read_rgb"]

UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What PIL raises for files that are no images, are damaged, or would take all memory."""


def read_rgb(file: Path | BinaryIO, where: str) -> Image.Image:
    """A decoded image, greyscale and other colour spaces turned into RGB.

    Args:
        file: a path, or an encoded image.
        where: how the error names the image.
    Raises: DataError: if it cannot be read.
    """
    try:
        with Image.open(file) as image:
            return image.convert("RGB")
    except UNREADABLE as error:
        raise DataError(f"{where}: not a readable image: {error}") from error
