"""Loaders of images in memory. The images are uint8 on the device, and whole batches are augmented there at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from selfkd.data.loading.batches import EpochSamples, EvaluationBatches, TrainingBatches
from selfkd.data.splits import ImageSet

__all__ = ["EvaluationLoader", "TrainingLoader"]


class TrainingLoader(TrainingBatches[ImageSet]):
    """Training batches of images in memory; `to` moves all images to the device, if they fit there."""

    def to(self, device: torch.device | str) -> None:
        super().to(device)
        self.data = _placed(self.data, self._labels, self.device_share)

    def _augmented(self, samples: EpochSamples) -> Iterator[Tensor]:
        images, device = self.data.images, self._labels.device
        with_images = samples.to(images.device)
        on_device = with_images.to(device)
        for (positions, _), (_, draws) in zip(with_images.batches(), on_device.batches(), strict=True):
            chosen = images.index_select(0, positions).to(device)  # several times faster than images[positions]
            yield torch.cat([self.augmentation(chosen, draws_BP) for draws_BP in draws])


class EvaluationLoader(EvaluationBatches[ImageSet]):
    """Evaluation batches of images in memory; `to` moves all images to the device, if they fit there."""

    def to(self, device: torch.device | str) -> None:
        super().to(device)
        self.data = _placed(self.data, self._labels, self.device_share)

    def _images(self, positions: Sequence[range]) -> Iterator[Tensor]:
        for batch in positions:
            yield self.data.images[batch.start : batch.stop : batch.step].to(self._labels.device)


def _placed(data: ImageSet, labels: Tensor, share: float) -> ImageSet:
    """The images on the device of the labels, or in main memory if they need more than a share of its free memory."""
    device = labels.device
    if device.type == "cuda" and data.images.device != device:
        free, _ = torch.cuda.mem_get_info(device)
        if data.images.nbytes > share * free:
            return ImageSet(data.images, labels)
    return ImageSet(data.images.to(device), labels)
