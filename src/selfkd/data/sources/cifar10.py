"""CIFAR-10: 60,000 photographs of 32x32 pixels in 10 classes."""

from __future__ import annotations

from dataclasses import dataclass

from torchvision import datasets

from selfkd.data.sources.cifar import CIFAR

__all__ = ["CIFAR10"]


@dataclass(frozen=True, kw_only=True)
class CIFAR10(CIFAR):
    """CIFAR-10 from `cifar-10-batches-py` as torchvision has it, or from Parquet files as the Hugging Face Hub has it.

    Args:
        mean: subtracted from each channel of pixel values in [0, 1]; the default is that of the training images.
        std: by which each channel is then divided; the default is that of the training images.
    Raises: OptionError: if a value is out of range.
    Source: Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images.
    """

    mean: tuple[float, ...] = (0.4914, 0.4822, 0.4465)
    std: tuple[float, ...] = (0.2470, 0.2435, 0.2616)

    torchvision_class = datasets.CIFAR10
    label_column = "label"
    num_classes = 10
