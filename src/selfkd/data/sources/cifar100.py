"""CIFAR-100: 60,000 photographs of 32x32 pixels in 100 classes."""

from __future__ import annotations

from dataclasses import dataclass

from torchvision import datasets

from selfkd.data.sources.cifar import CIFAR

__all__ = ["CIFAR100"]


@dataclass(frozen=True, kw_only=True)
class CIFAR100(CIFAR):
    """CIFAR-100 from `cifar-100-python` as torchvision has it, or from Parquet files as the Hugging Face Hub has it.

    Args:
        mean: subtracted from each channel of pixel values in [0, 1]; the default is that of TESKD and DTSKD.
        std: by which each channel is then divided; the default is that of TESKD and DTSKD.
    Raises: OptionError: if a value is out of range.
    Source: Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images.
    """

    mean: tuple[float, ...] = (0.4914, 0.4822, 0.4465)
    std: tuple[float, ...] = (0.2023, 0.1994, 0.2010)

    torchvision_class = datasets.CIFAR100
    label_column = "fine_label"
    num_classes = 100
