"""Labelled images that belong to no data set of ours, on which a trained network is evaluated."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor

from selfkd.data.reading.class_folders import list_known_classes, visible_folders
from selfkd.data.reading.image_files import ImageFiles
from selfkd.data.sources.split_names import usual_test_split
from selfkd.errors import DataError

__all__ = ["read_labelled_folder"]

_log = logging.getLogger("selfkd")


def read_labelled_folder(
    folder: Path, class_names: Sequence[str], transform: Callable[[Image.Image], Tensor], side: int
) -> ImageFiles:
    """The images of a folder with one folder per class. No image is opened.

    If the folder holds splits instead of classes, its test split is taken, else its validation split, and the log says
    so.

    Args:
        folder: the folder.
        class_names: K names of the network's classes in label order. A class may have no folder.
        transform: from a decoded image to the uint8 `[3, S, S]` on which the network is evaluated.
        side: S, in pixels.
    Raises: DataError: if there is no such folder, or its folders are not classes of the network with images.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; expected one that holds a folder of images for each class")
    names = visible_folders(folder)
    split = None if set(names) & set(class_names) else usual_test_split(names)
    if split is not None:
        _log.info("%s holds splits; its split %s is evaluated", folder, split)
        folder = folder / split
    return list_known_classes(folder, class_names, transform, side)
