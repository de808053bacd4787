"""The loader for data that fits in memory: it lives as uint8 on the device and is augmented there, batches at once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from selfkd.contract import Batch, Needs
from selfkd.data.augmentation import Augmentation
from selfkd.data.source import ImageSet
from selfkd.errors import DataError
from selfkd.option_checks import at_least

__all__ = ["EvaluationLoader", "LoaderOptions", "TrainingEpoch", "TrainingLoader"]


@dataclass(frozen=True, kw_only=True)
class LoaderOptions:
    """Sizes of batches.

    Args:
        batch_size: images in a training batch.
        evaluation_batch_size: images in a batch of evaluation.
    Raises: OptionError: if a size is below 1 (training: 2, since batch normalisation needs two).
    """

    batch_size: int = 128
    evaluation_batch_size: int = 500

    def __post_init__(self) -> None:
        at_least("loader.batch_size", self.batch_size, 2)
        at_least("loader.evaluation_batch_size", self.evaluation_batch_size, 1)


def _generator(*key: int) -> torch.Generator:
    """A generator on the CPU whose stream depends on the key alone, independent for every key."""
    state = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(state)


_ORDER, _AUGMENTATION = 0, 1  # what a stream of random numbers is for


class _Resident:
    """Images on a device, and how they become what a network takes."""

    def __init__(self, data: ImageSet, mean: Sequence[float], std: Sequence[float], channels_last: bool) -> None:
        self.data = data
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.mean = torch.tensor(mean).view(1, -1, 1, 1) * 255
        self.scale = 1 / (torch.tensor(std).view(1, -1, 1, 1) * 255)

    def to(self, device: torch.device | str) -> None:
        self.data = ImageSet(self.data.images.to(device), self.data.labels.to(device))
        self.mean, self.scale = self.mean.to(device), self.scale.to(device)

    def normalised(self, images: Tensor) -> Tensor:
        return images.to(torch.float32, memory_format=self.memory_format).sub_(self.mean).mul_(self.scale)


class TrainingLoader:
    """Augmented training batches, one epoch at a time.

    Order and augmentation are functions of (seed, epoch, sample) alone. The last batch of an epoch may be smaller;
    if a single sample would remain it is left out, because batch normalisation needs two.

    Args:
        data: the training images.
        augmentation: how they are changed.
        mean: per channel, of pixel values in [0, 1].
        std: per channel, of pixel values in [0, 1].
        batch_size: B.
        seed: of the run.
        needs: what the method needs of a batch.
        channels_last: memory layout of the batches.
    Raises: DataError: if the data has fewer than two samples, or the method needs what this loader cannot give.
    """

    def __init__(
        self,
        data: ImageSet,
        augmentation: Augmentation,
        mean: Sequence[float],
        std: Sequence[float],
        batch_size: int,
        seed: int,
        needs: Needs,
        channels_last: bool = True,
    ) -> None:
        if len(data) < 2:
            raise DataError(f"the training set has {len(data)} sample; batch normalisation needs at least 2")
        if replace(needs, sample_index=False, stages="any") != Needs():
            raise DataError(f"this loader gives one view of single samples and no second network; needed: {needs}")
        self._resident = _Resident(data, mean, std, channels_last)
        self.augmentation = augmentation
        self.batch_size = batch_size
        self.seed = seed
        self.needs = needs

    def __len__(self) -> int:
        """Batches in an epoch."""
        samples = len(self._resident.data)
        full, rest = divmod(samples, self.batch_size)
        return full + (rest > 1)

    def to(self, device: torch.device | str) -> None:
        """Move the images to the device that trains."""
        self._resident.to(device)

    def epoch(self, epoch: int) -> TrainingEpoch:
        """The batches of one epoch, counted from 0; can be iterated again and gives the same."""
        return TrainingEpoch(self, epoch)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """What `epoch` iterates over."""
        data = self._resident.data
        samples = len(data)
        device = data.labels.device
        order = torch.randperm(samples, generator=_generator(self.seed, epoch, _ORDER)).to(device)
        draws = self.augmentation.draw(samples, _generator(self.seed, epoch, _AUGMENTATION, 0)).to(device)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            chosen = order[start : start + self.batch_size]
            images = self._resident.normalised(self.augmentation(data.images[chosen], draws[chosen]))
            yield Batch(images, data.labels[chosen], chosen if self.needs.sample_index else None)


class TrainingEpoch:
    """One epoch of a `TrainingLoader`; it names its epoch, so no order of calls can give it another."""

    def __init__(self, loader: TrainingLoader, epoch: int) -> None:
        self.loader = loader
        self.number = epoch

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        return self.loader.batches(self.number)


class EvaluationLoader:
    """All images of a split in their order, unchanged but for the normalisation.

    Args:
        data: the images.
        mean: per channel, of pixel values in [0, 1].
        std: per channel, of pixel values in [0, 1].
        batch_size: B.
        channels_last: memory layout of the batches.
    """

    def __init__(
        self,
        data: ImageSet,
        mean: Sequence[float],
        std: Sequence[float],
        batch_size: int,
        channels_last: bool = True,
    ) -> None:
        self._resident = _Resident(data, mean, std, channels_last)
        self.batch_size = batch_size

    def __len__(self) -> int:
        return math.ceil(len(self._resident.data) / self.batch_size)

    def to(self, device: torch.device | str) -> None:
        """Move the images to the device that evaluates."""
        self._resident.to(device)

    def __iter__(self) -> Iterator[Batch]:
        data = self._resident.data
        for start in range(0, len(data), self.batch_size):
            part = slice(start, start + self.batch_size)
            yield Batch(self._resident.normalised(data.images[part]), data.labels[part])
