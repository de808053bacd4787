"""Tiny-ImageNet: 110,000 photographs of 64x64 pixels in 200 of ImageNet's classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from torch import Tensor
from torchvision.datasets.folder import is_image_file
from torchvision.transforms import v2

from selfkd.data.reading.class_folders import (
    check_listed_once,
    check_same_classes,
    class_folders,
    labelled_files,
    root_folder,
)
from selfkd.data.reading.image_files import ImageFiles
from selfkd.data.reading.regular_files import regular_status
from selfkd.data.sources.base import Source
from selfkd.data.splits import Splits
from selfkd.data.wording import few
from selfkd.errors import DataError, OptionError

__all__ = ["TinyImageNet", "validation_files"]

_SIDES = (32, 64)


@dataclass(frozen=True, kw_only=True)
class TinyImageNet(Source):
    """Tiny-ImageNet as its archive unpacks, or with its validation images sorted into one folder per class.

    The validation images are the test split, since the labels of the archive's test images are not public. Labels
    count the sorted WordNet ids; class names are those of `words.txt` where it lies beside `train`. All images are
    decoded before training, into 0.3 GB of memory at 32x32 and 1.4 GB at 64x64.

    Args:
        root: the folder with `train` and `val`.
        image_size: side in pixels: 64 as the files have them, or 32, to which LOTH scales them (bilinear).
        validation_fraction: share of the training set held out, stratified, to choose the best epoch; 0 for none.
        mean: subtracted from each channel of pixel values in [0, 1]; the default is ImageNet's, as in LOTH.
        std: by which each channel is then divided; the default is ImageNet's, as in LOTH.
    Raises: OptionError: if a value is out of range.
    Source: Le and Yang 2015, Tiny ImageNet Visual Recognition Challenge, Stanford CS 231N.
    """

    names_come_from = "words.txt, or the names of the class folders"

    root: str | None = None
    image_size: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image_size not in _SIDES:
            raise OptionError("data.image_size", self.image_size, " or ".join(map(str, _SIDES)))

    def read(self, seed: int) -> Splits:
        root = root_folder(self.root, "Tiny-ImageNet's train/ and val/")
        train, test = root / "train", root / "val"
        classes = class_folders(train)
        train_files, test_files = labelled_files(train, classes), validation_files(test, classes)
        check_listed_once(train_files, test_files)
        transform = self.image_transform()
        return Splits(
            train=ImageFiles.of(root, train_files, transform, self.image_size),
            test=ImageFiles.of(root, test_files, transform, self.image_size),
            class_names=class_words(root, classes),
            origins={"test": "the data set's own validation split"},
        )

    def _held(self, splits: Splits, whole_images: bool) -> Splits:
        return splits.in_memory()

    def image_transform(self) -> Callable[[Image.Image], Tensor]:
        # On PIL images, as LOTH scales them; on tensors, pixels would be rounded differently.
        transform: Callable[[Image.Image], Tensor] = v2.Compose(
            [v2.RGB(), v2.Resize([self.image_size, self.image_size]), v2.PILToTensor()]
        )
        return transform


def validation_files(folder: Path, classes: Sequence[str]) -> list[tuple[str, int]]:
    """Paths and labels in either layout, in the same order: by class, then by name."""
    flat = folder / "images"
    if flat.is_dir() and any(flat.iterdir()):
        return _annotated_files(flat, folder / "val_annotations.txt", classes)
    check_same_classes(classes, set(class_folders(folder)) - {flat.name}, folder)
    return labelled_files(folder, classes)


def _annotated_files(folder: Path, annotations: Path, classes: Sequence[str]) -> list[tuple[str, int]]:
    """Files of the archive's own layout, whose classes stand in a table: file name, WordNet id, box."""
    try:
        rows = [line.split("\t") for line in _lines(annotations) if line.strip()]
        class_of = {row[0]: row[1] for row in rows}
    except FileNotFoundError as error:
        raise DataError(
            f"{annotations} is missing: without it nobody knows the classes of the images in {folder}; "
            f"unpack the archive again, or sort the images into {folder.parent}/<class>/"
        ) from error
    except (OSError, ValueError, IndexError) as error:
        raise DataError(f"{annotations} is damaged: lines must begin with a file name, a tab and a class") from error
    without = sorted({path.name for path in folder.iterdir() if is_image_file(path.name)} - set(class_of))
    if without:
        raise DataError(f"{annotations} has no line for {few(without)} in {folder}")
    elsewhere = sorted(name for name in class_of if Path(name).name != name)
    if elsewhere:
        raise DataError(f"{annotations} names {elsewhere[0]!r}, which does not lie in {folder}")
    check_same_classes(classes, set(class_of.values()), annotations)
    label_of = {name: label for label, name in enumerate(classes)}
    labelled = sorted((label_of[name], file) for file, name in class_of.items())
    return [(str(folder / file), label) for label, file in labelled]


def class_words(root: Path, classes: Sequence[str]) -> tuple[str, ...]:
    """The words of `words.txt` for each WordNet id, with the id where several have the same; the id where none are.

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
