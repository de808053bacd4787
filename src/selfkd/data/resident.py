"""The loader for data that fits in memory: it lives as uint8 on the device and is augmented there, batches at once."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from selfkd.data.batches import EpochPlan, EvaluationBatches, TrainingBatches
from selfkd.data.source import ImageSet

__all__ = ["EvaluationLoader", "TrainingLoader"]


class TrainingLoader(TrainingBatches[ImageSet]):
    """Training batches of images in memory; `to` moves all of them."""

    def to(self, device: torch.device | str) -> None:
        super().to(device)
        self.data = ImageSet(self.data.images.to(device), self._labels)

    def _augmented(self, plan: EpochPlan) -> Iterator[Tensor]:
        images = self.data.images
        for positions, draws in plan.to(images.device).batches(self.batch_size):
            chosen = images.index_select(0, positions)  # several times faster than images[positions]
            yield torch.cat([self.augmentation(chosen, draws_BP) for draws_BP in draws])


class EvaluationLoader(EvaluationBatches[ImageSet]):
    """Evaluation batches of images in memory; `to` moves all of them."""

    def to(self, device: torch.device | str) -> None:
        super().to(device)
        self.data = ImageSet(self.data.images.to(device), self._labels)

    def _images(self) -> Iterator[Tensor]:
        yield from torch.split(self.data.images, self.batch_size)
