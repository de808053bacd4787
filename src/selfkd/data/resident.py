"""The loader for data that fits in memory: it lives as uint8 on the device and is augmented there, batches at once."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from selfkd.data.batches import EvaluationBatches, LoaderOptions, TrainingBatches, TrainingEpoch
from selfkd.data.source import ImageSet

__all__ = ["EvaluationLoader", "LoaderOptions", "TrainingEpoch", "TrainingLoader"]


class TrainingLoader(TrainingBatches[ImageSet]):
    """Training batches of images in memory; `to` moves all of them."""

    def to(self, device: torch.device | str) -> None:
        super().to(device)
        self.data = ImageSet(self.data.images.to(device), self._labels)

    def _augmented(self, order: Tensor, draws: Tensor) -> Iterator[Tensor]:
        images = self.data.images
        draws = draws.to(images.device)
        for chosen in torch.split(order.to(images.device), self.batch_size):
            yield self.augmentation(images[chosen], draws[chosen])


class EvaluationLoader(EvaluationBatches[ImageSet]):
    """Evaluation batches of images in memory; `to` moves all of them."""

    def to(self, device: torch.device | str) -> None:
        super().to(device)
        self.data = ImageSet(self.data.images.to(device), self._labels)

    def _images(self) -> Iterator[Tensor]:
        yield from torch.split(self.data.images, self.batch_size)
