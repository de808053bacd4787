"""Tiny-ImageNet: 110,000 photographs of 64x64 pixels in 200 of ImageNet's classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from PIL import Image
from torch import Tensor
from torchvision.datasets.folder import is_image_file
from torchvision.transforms import v2

from selfkd.data.listing import Listing, Problem, SplitNames
from selfkd.data.reading.class_folders import UNSORTED, class_problems, link_problems, list_class_folders, root_folder
from selfkd.data.reading.image_files import ImageFiles
from selfkd.data.reading.regular_files import regular_status
from selfkd.data.sources.base import ListedSource
from selfkd.data.splits import Splits
from selfkd.errors import DataError, few
from selfkd.option_checks import either

__all__ = ["TinyImageNet"]

_NAMES = SplitNames("train", "val")


@dataclass(frozen=True, kw_only=True)
class TinyImageNet(ListedSource):
    """Tiny-ImageNet as its archive unpacks, or with its validation images sorted into one folder per class.

    The validation images are the test split, because the labels of the archive's test images are not public. Labels are
    positions in the sorted WordNet ids. Class names are those of `words.txt`, if it is beside `train`. All images are
    decoded before training, into 0.3 GB of memory at 32x32 and 1.4 GB at 64x64.

    Args:
        root: folder with `train` and `val`.
        image_size: side of images in pixels: 64, the size of the files, or 32, to which they are scaled as in LOTH
            (bilinear).
        mean: numbers to subtract from the channels of pixel values in [0, 1]. The default is ImageNet's, as in LOTH.
        std: numbers > 0 to divide the channels by after that. The default is ImageNet's, as in LOTH.
    Raises: OptionError: if a value is out of range.
    Source: Le and Yang 2015, Tiny ImageNet Visual Recognition Challenge, Stanford CS 231N.
    """

    layout = "Tiny-ImageNet's archive"
    class_name_origin = "words.txt, or the names of the class folders"
    origins: ClassVar[Mapping[str, str]] = {"test": "the data set's own validation split"}

    root: str | None = None
    image_size: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        either("data.image_size", self.image_size, 32, 64)

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        # wnids.txt is the archive's. A copy of the images alone still has the annotations.
        files = ("wnids.txt", "val/val_annotations.txt")
        return (folder / "train").is_dir() and any((folder / file).exists() for file in files)

    def listing(self, seed: int) -> Listing:
        root = root_folder(self.root, "Tiny-ImageNet's train/ and val/")
        unsorted = root / "val" / UNSORTED
        if unsorted.is_dir() and any(unsorted.iterdir()):
            listing = self._with_annotated(unsorted, self._listed(root, {"train": root / "train"}))
        else:
            listing = self._listed(root, {name: root / name for name in _NAMES.used})
        return replace(listing, class_names=_words(root, listing.class_names))

    def _listed(self, root: Path, folders: Mapping[str, Path]) -> Listing:
        return list_class_folders(root, _NAMES, folders, self.image_transform(), self.image_size, (UNSORTED,))

    def _with_annotated(self, folder: Path, listing: Listing) -> Listing:
        """The listing of the training images, and the validation images of the archive, whose classes are in a table.

        Args:
            folder: holds the validation images of all classes.
            listing: has the WordNet ids as class names.
        """
        annotations = folder.parent / "val_annotations.txt"
        try:
            class_of = _annotated_classes(annotations, folder)
        except DataError as error:
            return replace(listing, problems=(*listing.problems, Problem("layout", str(error))))
        label_of = {name: label for label, name in enumerate(listing.class_names)}
        labelled = sorted((label_of[name], file) for file, name in class_of.items() if name in label_of)
        samples = [(str(folder / file), label) for label, file in labelled]
        root = folder.parent.parent
        splits = {**listing.splits, "val": ImageFiles.of(root, samples, self.image_transform(), self.image_size)}
        problems = class_problems(str(annotations), "val", listing.class_names, class_of.values())
        return replace(listing, splits=splits, problems=(*listing.problems, *problems, *link_problems(splits.values())))

    def _where_training_needs_them(self, splits: Splits, whole_images: bool) -> Splits:
        return splits.in_memory()

    def image_transform(self) -> Callable[[Image.Image], Tensor]:
        # On PIL images, as LOTH scales them; on tensors, pixels would be rounded differently.
        transform: Callable[[Image.Image], Tensor] = v2.Compose(
            [v2.RGB(), v2.Resize([self.image_size, self.image_size]), v2.PILToTensor()]
        )
        return transform


def _annotated_classes(annotations: Path, folder: Path) -> dict[str, str]:
    """The class of each file in a folder, from a table with the columns file name, WordNet id, box.

    Raises: DataError: if the table is missing or damaged, or does not fit the files.
    """
    try:
        rows = [line.split("\t") for line in _lines(annotations) if line.strip()]
        class_of = {row[0]: row[1] for row in rows}
    except FileNotFoundError as error:
        raise DataError(
            f"{annotations} is missing; it names the classes of the images in {folder}. Unpack the archive again, or "
            f"sort the images into {folder.parent}/<class>/"
        ) from error
    except (OSError, ValueError, IndexError) as error:
        raise DataError(f"{annotations} is damaged: lines must begin with a file name, a tab and a class") from error
    without = sorted({path.name for path in folder.iterdir() if is_image_file(path.name)} - set(class_of))
    if without:
        raise DataError(f"{annotations} has no line for {few(without)} in {folder}")
    elsewhere = sorted(name for name in class_of if Path(name).name != name)
    if elsewhere:
        raise DataError(f"{annotations} names {elsewhere[0]!r}, which is not a file in {folder}")
    return class_of


def _words(root: Path, classes: Sequence[str]) -> tuple[str, ...]:
    """The class names of WordNet ids: their words in `words.txt`, else the id. Words of several ids are followed by it.

    Raises: DataError: if the file cannot be read.
    """
    words = root / "words.txt"
    try:
        lines = _lines(words) if words.exists() else []
    except (OSError, ValueError) as error:
        raise DataError(f"{words} cannot be read: {error}") from error
    name_of = {identifier: name for identifier, _, name in (line.partition("\t") for line in lines)}
    names = [name_of.get(identifier, "").strip() or identifier for identifier in classes]
    counts = Counter(names)
    return tuple(
        name if counts[name] == 1 else f"{name} ({identifier})" for name, identifier in zip(names, classes, strict=True)
    )


def _lines(file: Path) -> list[str]:
    """Raises: OSError, ValueError: if it cannot be read."""
    regular_status(file)
    return file.read_text(encoding="utf-8").splitlines()
