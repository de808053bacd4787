"""Your own image files in one folder per class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from selfkd.data.listing import Listing, SplitNames
from selfkd.data.reading.class_folders import list_class_folders, root_folder, visible_folders
from selfkd.data.sources.own_images import StreamedImages
from selfkd.data.sources.split_names import SPLIT_NAMES, TRAIN_NAMES, find_splits

__all__ = ["Folder"]

_UNSPLIT = SplitNames("all images")


@dataclass(frozen=True, kw_only=True)
class Folder(StreamedImages):
    """Image files in `<split>/<class>/*` or, without splits, in `<class>/*`.

    Labels are positions in the sorted names of the class folders, which are the class names.

    Args:
        root: folder with the splits, or with the classes.
    Raises: OptionError: if a value is out of range.
    """

    layout = "image files in class folders"
    class_name_origin = "the names of the class folders"

    root: str | None = None

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        return True

    def listing(self, seed: int) -> Listing:
        root = root_folder(self.root, "one folder of images per class, or train/<class>/ and test/<class>/")
        names = self._split_names(root)
        folders = {name: root / name for name in names.used}
        if names == _UNSPLIT:
            folders = {names.train: root}
        return list_class_folders(root, names, folders, self.image_transform(), self.side)

    def _split_names(self, root: Path) -> SplitNames:
        """The names of the split folders; `_UNSPLIT` if the folders are classes."""
        folders = set(visible_folders(root))
        if self.train_split is not None or self.test_split is not None:
            return find_splits(folders, self.train_split, self.test_split, str(root))
        if not _are_splits(root, folders):
            return _UNSPLIT
        return find_splits({name for name in folders if name.lower() in SPLIT_NAMES}, None, None, str(root))


def _are_splits(root: Path, folders: set[str]) -> bool:
    """Whether folders are splits: a training folder holds folders, or all folders have usual names of splits.

    A class may be called train, too, but then it holds images.
    """
    train = [root / name for name in folders if name.lower() in TRAIN_NAMES]
    holds_folders = any(visible_folders(folder) for folder in train)
    return bool(train) and (holds_folders or all(name.lower() in SPLIT_NAMES for name in folders))
