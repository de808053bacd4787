"""Data sets and augmentations by name, one line each. Nothing here imports torch."""

from selfkd.catalogue import Catalogue, Entry

__all__ = ["AUGMENTATIONS", "DATASETS"]

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
        "dataset": Entry(
            "selfkd.data.sources.datasets:DatasetObjects", "a torch Dataset object of your own, passed in Python"
        ),
        "folder": Entry("selfkd.data.sources.folder:Folder", "your own images, one folder per class, split or not"),
    },
    listing="'selfkd list datasets' shows all",
)
"""The first data set that recognises a folder reads it. `folder` recognises every folder, so it is the last."""

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
