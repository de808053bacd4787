"""Anyone's image files, sorted into one folder per class."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from selfkd.data.reading.class_folders import (
    check_listed_once,
    check_same_classes,
    class_folders,
    labelled_files,
    root_folder,
    visible_folders,
)
from selfkd.data.reading.decoding import read_rgb
from selfkd.data.reading.image_files import ImageFiles
from selfkd.data.reading.room import check_room
from selfkd.data.sources.own_images import OwnImages
from selfkd.data.sources.split_names import SPLIT_NAMES, TRAIN_NAMES, SplitNames, assigned
from selfkd.data.splits import Splits

__all__ = ["Folder"]

_log = logging.getLogger("selfkd")


@dataclass(frozen=True, kw_only=True)
class Folder(OwnImages):
    """Image files in `<split>/<class>/*` or, where there are no splits yet, in `<class>/*`.

    Labels count the sorted names of the class folders, which are also the class names. Images that fit in memory are
    decoded before training, unless the augmentation wants them as their files have them; others are read from disk
    while training. Neither changes a result.

    Args:
        root: the folder with the splits, or with the classes.
    Raises: OptionError: if a value is out of range.
    """

    names_come_from = "the names of the class folders"

    root: str | None = None

    def read(self, seed: int) -> Splits:
        root = root_folder(self.root, "one folder of images per class, or train/<class>/ and test/<class>/")
        names = self.split_names(root)
        if names is None:
            classes = class_folders(root)
            names = SplitNames("all images", None, None)
            files = {names.train: labelled_files(root, classes)}
        else:
            classes = class_folders(root / names.train)
            for name in names.used:
                check_same_classes(classes, class_folders(root / name), root / name)
            files = {name: labelled_files(root / name, classes) for name in names.used}
        check_listed_once(*files.values())
        first, _ = files[names.train][0]
        self._check_size_given(lambda: read_rgb(Path(first), first))
        transform = self.image_transform()
        splits = {name: ImageFiles.of(root, samples, transform, self.side) for name, samples in files.items()}
        return self._arranged(names, splits, classes, seed)

    def _held(self, splits: Splits, whole_images: bool) -> Splits:
        if whole_images:
            return splits
        gigabytes = self._gigabytes(sum(map(len, splits.by_name.values())))
        if gigabytes > self.memory_gb:
            _log.info("images are read from disk as they are needed; in memory they would take %.2g GB", gigabytes)
            return splits
        check_room("data.memory_gb", self.memory_gb, int(gigabytes * 1e9), "to hold the decoded images")
        # Files identify a run's data wherever they are held.
        return splits.changed(lambda name, files: replace(files.in_memory(name), origin=files))

    def split_names(self, root: Path) -> SplitNames | None:
        """The names of the split folders; None where the folders are classes."""
        folders = set(visible_folders(root))
        if self.train_split is not None or self.test_split is not None:
            return assigned(folders, self.train_split, self.test_split, str(root))
        if not _are_splits(root, folders):
            return None
        return assigned({name for name in folders if name.lower() in SPLIT_NAMES}, None, None, str(root))


def _are_splits(root: Path, folders: set[str]) -> bool:
    """Whether folders are splits: one trains and holds folders, or all have names of splits.

    A class may be called train, too, but then it holds images.
    """
    train = [root / name for name in folders if name.lower() in TRAIN_NAMES]
    holds_folders = any(visible_folders(folder) for folder in train)
    return bool(train) and (holds_folders or all(name.lower() in SPLIT_NAMES for name in folders))
