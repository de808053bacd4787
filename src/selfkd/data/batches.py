"""Batches of a split, wherever its images lie: order, augmentation and normalisation are said here once."""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from selfkd.contract import Batch, Needs
from selfkd.data.augmentation import Augmentation
from selfkd.data.source import Split
from selfkd.errors import DataError, OptionError
from selfkd.option_checks import at_least

__all__ = ["EvaluationBatches", "LoaderOptions", "Normalisation", "TrainingBatches", "TrainingEpoch"]

SplitT = TypeVar("SplitT", bound=Split)

_MOST_WORKERS = 16


@dataclass(frozen=True, kw_only=True)
class LoaderOptions:
    """Sizes of batches, and who reads them.

    Args:
        batch_size: images in a training batch.
        evaluation_batch_size: images in a batch of evaluation.
        workers: processes that read and augment images which lie on disk; 0 for the process that trains, "auto" for
            one per core but one, at most 16. They change no result.
    Raises: OptionError: if a size is below 1 (training: 2, since batch normalisation needs two), or workers below 0.
    """

    batch_size: int = 128
    evaluation_batch_size: int = 500
    workers: int | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        at_least("loader.batch_size", self.batch_size, 2)
        at_least("loader.evaluation_batch_size", self.evaluation_batch_size, 1)
        if self.workers != "auto" and (not isinstance(self.workers, int) or self.workers < 0):
            raise OptionError("loader.workers", self.workers, "a whole number >= 0, or auto")

    @property
    def num_workers(self) -> int:
        """The number of processes on this machine."""
        if self.workers != "auto":
            return self.workers
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return min(cores - 1, _MOST_WORKERS)


def _generator(*key: int) -> torch.Generator:
    """A generator on the CPU whose stream depends on the key alone, independent for every key."""
    state = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(state)


_ORDER, _AUGMENTATION = 0, 1  # what a stream of random numbers is for


class Normalisation:
    """How uint8 images become what a network takes.

    Args:
        mean: per channel, of pixel values in [0, 1].
        std: per channel, of pixel values in [0, 1].
        channels_last: memory layout of the result.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], channels_last: bool) -> None:
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.mean = torch.tensor(mean).view(1, -1, 1, 1) * 255
        self.scale = 1 / (torch.tensor(std).view(1, -1, 1, 1) * 255)

    def to(self, device: torch.device | str) -> None:
        """Work on that device from now on."""
        self.mean, self.scale = self.mean.to(device), self.scale.to(device)

    def __call__(self, images: Tensor) -> Tensor:
        """Images `[B, C, H, W]` uint8 as float32, on their device."""
        return images.to(torch.float32, memory_format=self.memory_format).sub_(self.mean).mul_(self.scale)


class TrainingBatches(ABC, Generic[SplitT]):
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
    Raises: DataError: if the data has fewer than two samples, or the method needs what these batches cannot give.
    """

    def __init__(
        self,
        data: SplitT,
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
        self.data = data
        self.augmentation = augmentation
        self.batch_size = batch_size
        self.seed = seed
        self.needs = needs
        self._labels = data.labels
        self._normalised = Normalisation(mean, std, channels_last)

    def __len__(self) -> int:
        """Batches in an epoch."""
        full, rest = divmod(len(self.data), self.batch_size)
        return full + (rest > 1)

    def to(self, device: torch.device | str) -> None:
        """Give batches on the device that trains."""
        self._labels = self._labels.to(device)
        self._normalised.to(device)

    def epoch(self, epoch: int) -> TrainingEpoch:
        """The batches of one epoch, counted from 0; can be iterated again and gives the same."""
        return TrainingEpoch(self, epoch)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """What `epoch` iterates over.

        Raises: DataError: if an image cannot be read.
        """
        samples = len(self.data)
        order = torch.randperm(samples, generator=_generator(self.seed, epoch, _ORDER))
        draws = self.augmentation.draw(samples, _generator(self.seed, epoch, _AUGMENTATION, 0))
        order = order[: len(self) * self.batch_size]
        chosen_of_batches = torch.split(order.to(self._labels.device), self.batch_size)
        for chosen, images in zip(chosen_of_batches, self._augmented(order, draws), strict=True):
            indices = chosen if self.needs.sample_index else None
            yield Batch(self._normalised(images), self._labels[chosen], indices)

    @abstractmethod
    def _augmented(self, order: Tensor, draws: Tensor) -> Iterator[Tensor]:
        """Images `[B, C, H, W]` uint8 of every batch, on the device that trains.

        Args:
            order: positions of the samples of all batches, one batch after the other, on the CPU.
            draws: `[N, P]`, what each sample of the training set goes through, on the CPU.
        """


class TrainingEpoch:
    """One epoch of `TrainingBatches`; it names its epoch, so no order of calls can give it another."""

    def __init__(self, loader: TrainingBatches[SplitT], epoch: int) -> None:
        self.loader = loader
        self.number = epoch

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        return self.loader.batches(self.number)


class EvaluationBatches(ABC, Generic[SplitT]):
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
        data: SplitT,
        mean: Sequence[float],
        std: Sequence[float],
        batch_size: int,
        channels_last: bool = True,
    ) -> None:
        self.data = data
        self.batch_size = batch_size
        self._labels = data.labels
        self._normalised = Normalisation(mean, std, channels_last)

    def __len__(self) -> int:
        return math.ceil(len(self.data) / self.batch_size)

    def to(self, device: torch.device | str) -> None:
        """Give batches on the device that evaluates."""
        self._labels = self._labels.to(device)
        self._normalised.to(device)

    def __iter__(self) -> Iterator[Batch]:
        for images, labels in zip(self._images(), torch.split(self._labels, self.batch_size), strict=True):
            yield Batch(self._normalised(images), labels)

    @abstractmethod
    def _images(self) -> Iterator[Tensor]:
        """Images `[B, C, H, W]` uint8 of every batch, on the device that evaluates."""
