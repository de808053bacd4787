"""Data sets and augmentations by name, one line each. Nothing here imports torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from selfkd.catalogue import Catalogue, Entry, is_own
from selfkd.errors import OptionError
from selfkd.given_paths import csv_or_folder

if TYPE_CHECKING:
    from selfkd.data.sources.base import Source

__all__ = [
    "AUGMENTATIONS",
    "DATASETS",
    "OWN_IMAGES",
    "SHARED_OPTIONS",
    "shared_options",
    "source_class",
    "source_target",
]

DATASETS = Catalogue(
    "data set",
    {
        "digits": Entry(
            "selfkd.data.sources.digits:Digits", "scikit-learn's 1,797 scans of handwritten digits; no download"
        ),
        "cifar10": Entry(
            "selfkd.data.sources.cifar:CIFAR10", "CIFAR-10 from Parquet or torchvision's files, downloaded if asked"
        ),
        "cifar100": Entry(
            "selfkd.data.sources.cifar:CIFAR100",
            "CIFAR-100 from Parquet or torchvision's files, downloaded if asked",
        ),
        "fashion_mnist": Entry(
            "selfkd.data.sources.fashion_mnist:FashionMNIST",
            "Fashion-MNIST from torchvision's files, downloaded if asked",
        ),
        "tiny_imagenet": Entry(
            "selfkd.data.sources.tiny_imagenet:TinyImageNet",
            "Tiny-ImageNet's 200 classes at 32x32 or 64x64, in memory",
        ),
        "imagenet": Entry(
            "selfkd.data.sources.imagenet:ImageNet", "ImageNet, or other photographs in train/<class>/ and val/<class>/"
        ),
        "parquet": Entry("selfkd.data.sources.parquet:Parquet", "your own images in Parquet files in the Hub's layout"),
        "hub": Entry("selfkd.data.sources.hub:Hub", "any image classification set of the Hugging Face Hub, by name"),
        "csv": Entry("selfkd.data.sources.csv_file:CsvFile", "your own images, with paths and labels in a CSV file"),
        "dataset": Entry(
            "selfkd.data.sources.datasets:DatasetObjects", "a torch Dataset object of your own, passed in Python"
        ),
        "folder": Entry("selfkd.data.sources.folder:Folder", "your own images, one folder per class, split or not"),
    },
    listing="'selfkd list datasets' shows all",
    takes_own=True,
)
"""The first data set that recognises a folder reads it. `folder` recognises every folder, so it is the last."""

OWN_IMAGES = frozenset({"folder", "csv", "parquet", "hub", "dataset"})
"""The data sets of users' own images, `OwnImages`."""
SHARED_OPTIONS = frozenset(
    {
        "image_size",
        "resize",
        "interpolation",
        "mean",
        "std",
        "classes",
        "train_per_class",
        "validation_fraction",
        "test_fraction",
        "memory_gb",
    }
)
"""The options of all `OwnImages` that do not say where the images are or what their splits are called."""

AUGMENTATIONS = Catalogue(
    "augmentation",
    {
        "none": Entry("selfkd.data.augmentation.augmentations:Unchanged", "images as they are"),
        "crop_flip": Entry("selfkd.data.augmentation.augmentations:CropFlip", "padding, random crop, horizontal flip"),
        "random_resized_crop": Entry(
            "selfkd.data.augmentation.augmentations:RandomResizedCrop",
            "random part of an image file, scaled to one size; horizontal flip",
        ),
    },
    listing="the augmentations are none, crop_flip and random_resized_crop",
)


def shared_options(before: str, after: str) -> frozenset[str]:
    """The options that a recipe keeps when one data set replaces another. Nothing is imported.

    If both are users' own images, these are `SHARED_OPTIONS`, else none. `package.module:Name` counts as own images.
    """
    both_own = all(name in OWN_IMAGES or is_own(name) for name in (before, after))
    return SHARED_OPTIONS if both_own else frozenset()


def source_target(name: str) -> str:
    """The `module:attribute` of a data set, by name. Nothing is imported.

    Raises:
        UnknownNameError: if there is no such data set; the message gives the nearest.
        OptionError: if the name is that of a folder or of a CSV file instead.
    """
    kind = None if name in DATASETS or is_own(name) else csv_or_folder(name)
    if kind is not None:
        reason = f"data takes the name of a data set; for this {kind[0]}, write data={kind[1]} data.root={name}"
        raise OptionError("data", name, reason=reason)
    return DATASETS.target(name)


def source_class(name: str) -> type[Source]:
    """The class of a data set, by name.

    A user's own (`package.module:Name`) is a class of `Source`, or a class or function that gives torch Datasets.

    Raises:
        UnknownNameError, OptionError: as `source_target`.
        UserError: if a user's own cannot be imported or used.
    """
    source_target(name)
    source: type[Source] = DATASETS.load(name)
    if not is_own(name):
        return source
    from selfkd.data.sources.own_dataset import source_of

    return source_of(name, source)
