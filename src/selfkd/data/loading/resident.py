"""The loader for data that fits in memory: it lives as uint8 on the device and is augmented there, batches at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from selfkd.data.loading.batches import EpochPlan, EvaluationBatches, TrainingBatches
from selfkd.data.splits import ImageSet

__all__ = ["EvaluationLoader", "TrainingLoader"]


class TrainingLoader(TrainingBatches[ImageSet]):
    """Training batches of images in memory; `to` moves all of them, if the device has room."""

    def to(self, device: torch.device | str) -> None:
        super().to(device)
        self.data = _placed(self.data, self._labels, self.device_share)

    def _augmented(self, plan: EpochPlan) -> Iterator[Tensor]:
        images, device = self.data.images, self._labels.device
        plan_there = plan.to(images.device)
        plan_here = plan_there.to(device)
        for (positions, _), (_, draws) in zip(plan_there.batches(), plan_here.batches(), strict=True):
            chosen = images.index_select(0, positions).to(device)  # several times faster than images[positions]
            yield torch.cat([self.augmentation(chosen, draws_BP) for draws_BP in draws])


class EvaluationLoader(EvaluationBatches[ImageSet]):
    """Evaluation batches of images in memory; `to` moves all of them, if the device has room."""

    def to(self, device: torch.device | str) -> None:
        super().to(device)
        self.data = _placed(self.data, self._labels, self.device_share)

    def _images(self, positions: Sequence[range]) -> Iterator[Tensor]:
        for batch in positions:
            yield self.data.images[batch.start : batch.stop : batch.step].to(self._labels.device)


def _placed(data: ImageSet, labels: Tensor, share: float) -> ImageSet:
    """The images where the labels are, or in main memory where they would take more than a share of what is free."""
    device = labels.device
    if device.type == "cuda" and data.images.device != device:
        free, _ = torch.cuda.mem_get_info(device)
        if data.images.nbytes > share * free:
            return ImageSet(data.images, labels)
    return ImageSet(data.images.to(device), labels)
