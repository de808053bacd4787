"""Labelled images that belong to no data set of ours, on which a trained network is evaluated."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from selfkd.data.reading.class_folders import list_known_classes, visible_folders
from selfkd.data.reading.csv_files import read_csv, read_known_classes
from selfkd.data.reading.dataset_images import DatasetSamples, dataset_name
from selfkd.data.sources.csv_file import CsvFile
from selfkd.data.sources.split_names import usual_test_split
from selfkd.data.splits import IndexedImages
from selfkd.errors import DataError, few
from selfkd.given_paths import check_path, expanded

__all__ = ["read_labelled_images"]

_log = logging.getLogger("selfkd")


def read_labelled_images(
    place: Any,
    class_names: Sequence[str],
    transform: Callable[[Image.Image], Tensor],
    side: int,
    columns: CsvFile | None = None,
) -> IndexedImages:
    """The images of a folder with one folder per class, of a CSV file, or of a torch Dataset.

    If a folder or a CSV file has splits, its test split is taken, else its validation split, and the log says so.

    Args:
        place: the path of the folder or of the CSV file, or a map-style Dataset of pairs (image, label).
        class_names: K names of the network's classes in label order. A class may have no image.
        transform: from a decoded image to the uint8 `[3, S, S]` on which the network is evaluated.
        side: S, in pixels.
        columns: the data set of a run that was trained on a CSV file; it gives the names of the columns and the folder
            of the images. None for the usual names and the folder of the CSV file.
    Raises:
        DataError: if there is no such folder or file, a CSV file has no column of a usual name, or its labels are not
            classes of the network.
        UserError: if no file system can have such a path.
        OptionError: if a CSV file lacks a column of a given name.
    """
    if not isinstance(place, str | os.PathLike):
        return _of_dataset(place, class_names, transform, side)
    path = expanded(place)
    check_path(path)
    if path.is_file():
        known = CsvFile() if columns is None else columns
        table = read_csv(path, known.path_column, known.label_column)
        split = usual_test_split(table.splits)
        if split is not None:
            _log.info("%s has splits; its split %s is evaluated", path, split)
        elif table.has_splits:
            raise DataError(f"{path} has no split called test or validation, but {few(sorted(table.splits))}")
        root = None if known.image_root is None else Path(known.image_root)
        return read_known_classes(table, split, class_names, transform, side, root)
    if not path.is_dir():
        raise DataError(
            f"{path} is not a folder; expected one that holds a folder of images for each class, or a CSV file"
        )
    names = visible_folders(path)
    split = None if set(names) & set(class_names) else usual_test_split(names)
    if split is not None:
        _log.info("%s holds splits; its split %s is evaluated", path, split)
        path = path / split
    return list_known_classes(path, class_names, transform, side)


def _of_dataset(
    dataset: Any, class_names: Sequence[str], transform: Callable[[Image.Image], Tensor], side: int
) -> IndexedImages:
    """The images of a Dataset. If it names its classes, the names give the labels, else its numbers are the labels."""
    samples = DatasetSamples(dataset_name(dataset), dataset)
    if not len(samples):
        raise DataError(f"{samples.name} is empty")
    names = tuple(class_names) if samples.class_names is None else samples.class_names
    label_of = {name: label for label, name in enumerate(class_names)}
    present = sorted(set(samples.labels.tolist()))
    unknown = [str(each) for each in present if not 0 <= each < len(names)]
    unknown += [names[each] for each in present if 0 <= each < len(names) and names[each] not in label_of]
    if unknown:
        raise DataError(
            f"{samples.name} has labels that are no class of the run ({few(unknown)}); the run's classes are "
            f"{few(class_names)}"
        )
    labels = torch.tensor([label_of[names[each]] for each in samples.labels.tolist()], dtype=torch.int64)
    return samples.images(labels, transform, side)
