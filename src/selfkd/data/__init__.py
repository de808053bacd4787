"""Data sets by name, augmentation by name. One line each; nothing here imports torch."""

from selfkd.catalogue import Catalogue, Entry

__all__ = ["AUGMENTATIONS", "DATASETS"]

DATASETS = Catalogue(
    "data set",
    {
        "digits": Entry("selfkd.data.digits:Digits", "scikit-learn's 1,797 scans of handwritten digits; no download"),
        "cifar100": Entry("selfkd.data.cifar100:CIFAR100", "CIFAR-100 from Parquet files in the Hub's layout"),
    },
    listing="'selfkd list datasets' shows all",
)

AUGMENTATIONS = Catalogue(
    "augmentation",
    {
        "none": Entry("selfkd.data.augmentation:Unchanged", "images as they are"),
        "crop_flip": Entry("selfkd.data.augmentation:CropFlip", "padding, random crop, horizontal flip"),
    },
    listing="the augmentations are none and crop_flip",
)
