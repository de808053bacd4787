"""Data sets by name, augmentation by name. One line each; nothing here imports torch."""

from selfkd.catalogue import Catalogue, Entry

__all__ = ["AUGMENTATIONS", "DATASETS"]

DATASETS = Catalogue(
    "data set",
    {
        "digits": Entry("selfkd.data.digits:Digits", "scikit-learn's 1,797 scans of handwritten digits; no download"),
        "cifar100": Entry("selfkd.data.cifar100:CIFAR100", "CIFAR-100 from Parquet files in the Hub's layout"),
        "tiny_imagenet": Entry(
            "selfkd.data.tiny_imagenet:TinyImageNet", "Tiny-ImageNet's 200 classes at 32x32 or 64x64, held in memory"
        ),
        "imagenet": Entry(
            "selfkd.data.imagenet:ImageNet", "ImageNet, or other photographs in train/<class>/ and val/<class>/"
        ),
    },
    listing="'selfkd list datasets' shows all",
)

AUGMENTATIONS = Catalogue(
    "augmentation",
    {
        "none": Entry("selfkd.data.augmentation:Unchanged", "images as they are"),
        "crop_flip": Entry("selfkd.data.augmentation:CropFlip", "padding, random crop, horizontal flip"),
        "random_resized_crop": Entry(
            "selfkd.data.augmentation:RandomResizedCrop",
            "random part of an image file scaled to one size, horizontal flip",
        ),
    },
    listing="the augmentations are none, crop_flip and random_resized_crop",
)
