"""Batches of a split: their order, augmentation and normalisation, wherever the images are stored."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Generic, Literal, TypeVar

import torch
from torch import Tensor

from selfkd.contract import Batch, Needs
from selfkd.cores import available_cores
from selfkd.data.augmentation.augmentations import Augmentation
from selfkd.data.augmentation.random_streams import generator, seed_of
from selfkd.data.augmentation.regularization import Cutout, Mixing
from selfkd.data.loading.same_class import SameClassSampler
from selfkd.data.splits import Split
from selfkd.errors import DataError, OptionError
from selfkd.option_checks import at_least

__all__ = [
    "EpochSamples",
    "EvaluationBatches",
    "LoaderOptions",
    "Normalisation",
    "SplitBatches",
    "TrainingBatches",
    "TrainingEpoch",
]

SplitT = TypeVar("SplitT", bound=Split)

_MOST_WORKERS = 16
_LARGEST_WORKERS = 1024
_FEWEST = 2
"""Batch normalisation needs this many images in a batch to have a variance."""


@dataclass(frozen=True, kw_only=True)
class LoaderOptions:
    """Sizes of batches, and the processes that read them.

    Args:
        batch_size: number of training samples in a batch, >= 2. A method that needs several views of each sample, or
            other samples of its class (CS-KD, BAKE), gets that many times more images.
        evaluation_batch_size: number of images in a batch of evaluation, >= 1. It changes results by rounding only.
        workers: number of processes that read and augment images from disk. 0 does it in the process that trains;
            "auto" is one less than the number of cores, at most 16. It changes no result.
        device_share: share of an accelerator's free memory that decoded images may take, in [0, 1]. A larger split
            stays in main memory, and each batch is copied from there. It changes no result.
    Raises: OptionError: if a value is out of range.
    """

    batch_size: int = 128
    evaluation_batch_size: int = 500
    workers: int | Literal["auto"] = "auto"
    device_share: float = 0.25

    def __post_init__(self) -> None:
        at_least("loader.batch_size", self.batch_size, _FEWEST)
        at_least("loader.evaluation_batch_size", self.evaluation_batch_size, 1)
        if self.workers != "auto" and (not isinstance(self.workers, int) or not 0 <= self.workers <= _LARGEST_WORKERS):
            allowed = f"auto, or a whole number >= 0 and at most {_LARGEST_WORKERS}"
            raise OptionError("loader.workers", self.workers, allowed)
        if not 0 <= self.device_share <= 1:
            raise OptionError("loader.device_share", self.device_share, "in [0, 1]")

    @property
    def num_workers(self) -> int:
        """The number of worker processes on this machine."""
        if self.workers != "auto":
            return self.workers
        return min(available_cores() - 1, _MOST_WORKERS)


# The purposes of random numbers; each has streams of its own.
_ORDER, _AUGMENTATION, _FOLLOWERS, _CUTOUT, _MIXING = range(5)


@dataclass(frozen=True)
class EpochSamples:
    """The samples of every batch of an epoch and the random numbers of their augmentation, on one device.

    Args:
        order: positions of the anchors of all batches, one batch after the other.
        sizes: number of anchors in each batch.
        members: `[S, N]`, for each of the N samples its own position and those of its S - 1 followers.
        draws: `[V, S, N, P]`, P random numbers for each view of each sample as an anchor (0) and of its followers.
    """

    order: Tensor
    sizes: Sequence[int]
    members: Tensor
    draws: Tensor

    def to(self, device: torch.device) -> EpochSamples:
        """The same on another device."""
        return EpochSamples(self.order.to(device), self.sizes, self.members.to(device), self.draws.to(device))

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """For every batch of A anchors the positions `[S*A]` of its samples, and their draws `[V, S*A, P]`."""
        for anchors, positions in zip(torch.split(self.order, list(self.sizes)), self.positions(), strict=True):
            yield positions, self.draws.index_select(2, anchors).flatten(1, 2)

    def positions(self) -> Iterator[Tensor]:
        """For every batch of A anchors the positions `[S*A]` of its samples."""
        for anchors in torch.split(self.order, list(self.sizes)):
            yield self.members.index_select(1, anchors).flatten()


class Normalisation:
    """Converts uint8 images to the float32 input of a network.

    Args:
        mean: per channel, of pixel values in [0, 1].
        std: per channel, of pixel values in [0, 1].
        channels_last: memory layout of the result.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], channels_last: bool) -> None:
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.mean = torch.tensor(mean) * 255
        self.scale = 1 / (torch.tensor(std) * 255)

    def to(self, device: torch.device | str) -> None:
        """Work on this device from now on."""
        self.mean, self.scale = self.mean.to(device), self.scale.to(device)

    def __call__(self, images: Tensor) -> Tensor:
        """Images `[B, C, H, W]` uint8 as float32, on their device."""
        normalised = images.to(torch.float32, memory_format=self.memory_format)
        pixels_BHWC = normalised.permute(0, 2, 3, 1)
        # A whole row of values at a time: broadcasting over three channels is slow in channels-last layout.
        width = images.shape[3]
        pixels_BHWC.sub_(self.mean.repeat(width, 1)).mul_(self.scale.repeat(width, 1))
        return normalised


class SplitBatches(ABC, Generic[SplitT]):
    """Normalised batches of a split, shared by the processes that train together.

    Args:
        data: the images.
        mean: per channel, of pixel values in [0, 1].
        std: per channel, of pixel values in [0, 1].
        batch_size: images in a batch of all processes together.
        channels_last: memory layout of the batches.
        workers: number of processes that read images from disk; 0 reads in the calling process.
        device_share: share of the device's free memory that images in memory may take.
    """

    def __init__(
        self,
        data: SplitT,
        mean: Sequence[float],
        std: Sequence[float],
        batch_size: int,
        channels_last: bool = True,
        workers: int = 0,
        device_share: float = 1.0,
    ) -> None:
        self.data = data
        self.batch_size = batch_size
        self.workers = workers
        self.device_share = device_share
        self._labels = data.labels
        self._normalised = Normalisation(mean, std, channels_last)
        self._rank, self._processes = 0, 1

    def to(self, device: torch.device | str) -> None:
        """Give batches on this device from now on."""
        self._labels = self._labels.to(device)
        self._normalised.to(device)


class TrainingBatches(SplitBatches[SplitT]):
    """Augmented training batches in the layout of `Batch`, one epoch at a time.

    Order, followers, augmentation and holes are functions of (seed, epoch, sample, view) alone; mixtures are functions
    of (seed, epoch, step). Every sample is an anchor once per epoch. The last batch may be smaller. A single last
    anchor is left out, because batch normalisation needs two. Processes that train together share each batch.

    Args:
        data: the training images.
        augmentation: the change of each image.
        mean: per channel, of pixel values in [0, 1].
        std: per channel, of pixel values in [0, 1].
        batch_size: anchors in a batch of all processes together.
        seed: the run's seed.
        needs: what the method needs in a batch.
        channels_last: memory layout of the batches.
        cutout: cuts a hole into every image, or None.
        mixing: mixes the images of a batch, or None; only for batches of single views of single samples.
        workers: number of processes that read and augment images; 0 does it in the calling process.
        device_share: share of the device's free memory that images in memory may take.
    Raises: DataError: if the data has fewer than two samples.
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
        cutout: Cutout | None = None,
        mixing: Mixing | None = None,
        workers: int = 0,
        device_share: float = 1.0,
    ) -> None:
        if len(data) < _FEWEST:
            raise DataError(f"the training set has {len(data)} sample; batch normalisation needs at least 2")
        super().__init__(data, mean, std, batch_size, channels_last, workers, device_share)
        self.augmentation = augmentation
        self.seed = seed
        self.needs = needs
        self.cutout = cutout
        self.mixing = mixing
        self._followers = (
            SameClassSampler(data.labels, needs.same_class, needs.same_class_distinct) if needs.same_class else None
        )

    def __len__(self) -> int:
        """Batches in an epoch."""
        full, rest = divmod(len(self.data), self.batch_size)
        return full + (rest >= _FEWEST * self._processes)

    def set_shard(self, rank: int, processes: int) -> None:
        """From now on, give every `processes`-th anchor of each batch, beginning with number `rank`.

        A last batch with fewer than two anchors for each process is left out by all processes.

        Raises:
            OptionError: if the batch size is no multiple of `processes`, or too small.
            DataError: if there are too few samples for this number of processes.
        """
        if self.batch_size % processes or self.batch_size < _FEWEST * processes:
            allowed = f"a multiple of the {processes} processes that train, at least {_FEWEST} for each"
            raise OptionError("loader.batch_size", self.batch_size, allowed)
        self._rank, self._processes = rank, processes
        if len(self) == 0:
            raise DataError(f"{len(self.data)} training samples are too few: {processes} processes need {_FEWEST} each")

    @property
    def halved_batch_size(self) -> int | None:
        """The largest batch size up to half of this one that fits the number of processes; None if there is none."""
        half = self.batch_size // 2 // self._processes * self._processes
        return half if half >= _FEWEST * self._processes else None

    def loss_weight(self, step: int) -> float:
        """The weight of this process's loss, so that the mean over processes is the mean over the batch of a step.

        It is this process's number of anchors divided by the mean number of all processes: 1, except in a last batch
        that is no multiple of the number of processes.
        """
        whole = min(self.batch_size, len(self.data) - step * self.batch_size)
        mine = len(range(self._rank, whole, self._processes))
        return mine * self._processes / whole

    def epoch(self, epoch: int) -> TrainingEpoch:
        """The batches of one epoch, counted from 0. Every iteration gives the same batches."""
        return TrainingEpoch(self, epoch)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch, once.

        Raises: DataError: if an image cannot be read.
        """
        samples = self._samples(epoch)
        # Holes are cut after the normalisation, so always on the device that trains.
        after = replace(samples, draws=self._draws(self.cutout, epoch, _CUTOUT)).to(self._labels.device)
        on_host = samples.positions() if self.needs.sample_index and self._labels.device.type != "cpu" else repeat(None)
        batches = zip(after.batches(), self._augmented(samples), strict=True)
        for step, ((positions, holes), images) in enumerate(batches):
            normalised = self._normalised(images)
            labels = self._labels[positions]
            if self.cutout is not None:
                normalised = self.cutout(normalised, holes.flatten(0, 1))
            if self.mixing is not None:
                normalised, labels = self.mixing(normalised, labels, seed_of(self.seed, epoch, _MIXING, step))
            indices = positions if self.needs.sample_index else None
            yield Batch(normalised, labels, indices, self.needs.views, next(on_host), self.needs.same_class)

    def _samples(self, epoch: int) -> EpochSamples:
        order = torch.randperm(len(self.data), generator=generator(self.seed, epoch, _ORDER))
        members = torch.arange(len(self.data))[None]
        if self._followers is not None:
            members = torch.cat([members, self._followers.draw(generator(self.seed, epoch, _FOLLOWERS))])
        draws = self._draws(self.augmentation, epoch, _AUGMENTATION)
        # The whole batch is drawn first, so that order and draws do not depend on the number of processes.
        batches = torch.split(order, self.batch_size)[: len(self)]
        mine = [anchors[self._rank :: self._processes] for anchors in batches]
        return EpochSamples(torch.cat(mine), [len(anchors) for anchors in mine], members, draws)

    def _draws(self, drawing: Augmentation | Cutout | None, epoch: int, purpose: int) -> Tensor:
        """Random numbers `[V, S, N, P]`; each view of an anchor and of each follower has a stream of its own."""
        views, members, samples = self.needs.views, 1 + self.needs.same_class, len(self.data)
        if drawing is None:
            return torch.empty(views, members, samples, 0, dtype=torch.int64)
        streams = [(view, member) if member else (view,) for view in range(views) for member in range(members)]
        drawn = [drawing.draw(samples, generator(self.seed, epoch, purpose, *stream)) for stream in streams]
        return torch.stack(drawn).view(views, members, samples, -1)

    @abstractmethod
    def _augmented(self, samples: EpochSamples) -> Iterator[Tensor]:
        """Images `[V*B, C, H, W]` uint8 of every batch, on the device that trains.

        Args:
            samples: on the CPU.
        """


class TrainingEpoch:
    """One epoch of `TrainingBatches`. It stores its number, so it does not depend on the order of calls."""

    def __init__(self, loader: TrainingBatches[SplitT], epoch: int) -> None:
        self.loader = loader
        self.number = epoch

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        return self.loader.batches(self.number)


class EvaluationBatches(SplitBatches[SplitT]):
    """All images of a split in their order, normalised only. Indices are positions in the split."""

    def __len__(self) -> int:
        return math.ceil(len(self.data) / self.batch_size)

    def set_shard(self, rank: int, processes: int) -> None:
        """From now on, give every `processes`-th image of each batch, beginning with number `rank`.

        If a batch has no image for this process, it gets the first image without a label, because not every network
        takes an empty batch.
        """
        self._rank, self._processes = rank, processes

    def __iter__(self) -> Iterator[Batch]:
        shares = [batch[self._rank :: self._processes] for batch in self._batches()]
        positions = [share or batch[:1] for share, batch in zip(shares, self._batches(), strict=True)]
        for images, share in zip(self._images(positions), shares, strict=True):
            indices = torch.arange(share.start, share.stop, share.step, device=self._labels.device)
            yield Batch(self._normalised(images), self._labels[share.start : share.stop : share.step], indices)

    def _batches(self) -> Iterator[range]:
        everything = range(len(self.data))
        for start in range(0, len(self.data), self.batch_size):
            yield everything[start : start + self.batch_size]

    @abstractmethod
    def _images(self, positions: Sequence[range]) -> Iterator[Tensor]:
        """Images `[B, C, H, W]` uint8 of every batch, on the device that evaluates.

        Args:
            positions: positions in the split, for every batch.
        """
