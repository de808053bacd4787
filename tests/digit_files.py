"""scikit-learn's digits as image files."""

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits


def positions_of(digit: int, count: int) -> list[int]:
    """Where the first scans of a digit stand."""
    positions: list[int] = np.flatnonzero(load_digits().target == digit)[:count].tolist()
    return positions


def save_digit(path: Path, position: int, mode: str = "RGB", size: tuple[int, int] | None = None) -> None:
    """A real digit as a JPEG file; unless a size is given, width and height vary with its position."""
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = Image.fromarray(np.uint8(load_digits().images[position] * (255 / 16)))
    size = size or (40 + position % 7 * 5, 40 + position % 5 * 8)
    grey.resize(size).convert(mode).save(path, "JPEG", quality=95)
