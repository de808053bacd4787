"""Real digits as image files, for benchmarks that read their images from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

__all__ = ["write_images"]


def write_images(folder: Path, train: int = 40, test: int = 20) -> Path:
    """Write the digits 0 to 4 as PNG files of 16x16 pixels, `<split>/<digit>/*.png`; returns the folder.

    Args:
        folder: gets the files.
        train: images of each digit for training.
        test: images of each digit for testing.
    """
    scans, labels = load_digits(return_X_y=True)
    for label in range(5):
        for rank, position in enumerate(np.flatnonzero(labels == label)[: train + test]):
            file = folder / ("train" if rank < train else "test") / str(label) / f"{position}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.uint8(scans[position].reshape(8, 8) * (255 / 16))).resize((16, 16)).save(file)
    return folder
