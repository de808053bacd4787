"""Augmentations beyond crop and flip: policies, holes, and mixtures of two images with soft labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal, get_args

import torch
from torch import Tensor
from torchvision.transforms import v2

from selfkd.data.augmentation.augmentations import Augmentation
from selfkd.data.augmentation.random_streams import BELOW, below, each_seeded, seeded
from selfkd.errors import OptionError
from selfkd.option_checks import LARGEST_SIZE, one_of

__all__ = ["Cutout", "Mixing", "Regularization", "WithPolicy"]

Policy = Literal["none", "autoaugment_cifar10", "autoaugment_imagenet", "randaugment", "trivialaugment"]

_POLICIES: Mapping[str, Callable[[], v2.Transform]] = {
    "autoaugment_cifar10": partial(v2.AutoAugment, v2.AutoAugmentPolicy.CIFAR10),
    "autoaugment_imagenet": partial(v2.AutoAugment, v2.AutoAugmentPolicy.IMAGENET),
    "randaugment": v2.RandAugment,
    "trivialaugment": v2.TrivialAugmentWide,
}

_LEAST_ALPHA = 0.01
"""Smallest alpha of a mixture. With a tiny alpha, floating point cannot draw from Beta(alpha, alpha)."""
_LARGEST_ALPHA = 1000
"""Largest alpha of a mixture. Above it, all shares are one half."""


@dataclass(frozen=True, kw_only=True)
class Regularization:
    """Changes of training images after the augmentation; none by default.

    Args:
        policy: policy of torchvision that changes colour and shape of each image, with its default settings:
            autoaugment_cifar10, autoaugment_imagenet, randaugment or trivialaugment. It works on single images, so
            loader.workers help even with data in memory.
        cutout: side of a square hole in pixels, an even number >= 0, centred anywhere in the image. 0 cuts no hole; the
            paper uses 16 on CIFAR-10 and 8 on CIFAR-100.
        mixup: alpha of Mixup, 0 or from 0.01 to 1000. 0 mixes nothing; papers use 0.2 to 1. Labels become soft.
        cutmix: alpha of CutMix, 0 or from 0.01 to 1000. 0 mixes nothing; the paper uses 1. Labels become soft. If mixup
            is set too, each batch draws one of the two.
    Raises: OptionError: if a value is out of range.
    """

    policy: Policy = "none"
    cutout: int = 0
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        one_of("regularization.policy", self.policy, get_args(Policy))
        if not isinstance(self.cutout, int) or not 0 <= self.cutout <= LARGEST_SIZE or self.cutout % 2:
            allowed = f"an even whole number >= 0 and at most {LARGEST_SIZE}"
            raise OptionError("regularization.cutout", self.cutout, allowed)
        for option in ("mixup", "cutmix"):
            alpha = getattr(self, option)
            if alpha and not _LEAST_ALPHA <= alpha <= _LARGEST_ALPHA:
                allowed = f"0, or from {_LEAST_ALPHA} to {_LARGEST_ALPHA}"
                raise OptionError(f"regularization.{option}", alpha, allowed)

    def applied_to(self, augmentation: Augmentation) -> Augmentation:
        """The augmentation followed by the policy, if there is one."""
        return augmentation if self.policy == "none" else WithPolicy(augmentation, self.policy)

    def hole(self) -> Cutout | None:
        """Cuts a hole into every image; None if there is none."""
        return Cutout(self.cutout) if self.cutout else None

    def mixing(self, num_classes: int) -> Mixing | None:
        """Mixes the images of a batch; None if no option asks for it."""
        return Mixing(self.mixup, self.cutmix, num_classes) if self.mixup or self.cutmix else None


@dataclass(frozen=True)
class WithPolicy(Augmentation):
    """An augmentation, then a policy of torchvision. The draw of each image seeds the policy's random numbers.

    Args:
        augmentation: the first change of each image.
        policy: a name of `Policy` but "none".
    Source: AutoAugment: Cubuk et al. 2019, arXiv:1805.09501; RandAugment: Cubuk et al. 2020, arXiv:1909.13719;
        TrivialAugment: Müller and Hutter 2021, arXiv:2103.10158.
    """

    augmentation: Augmentation
    policy: Policy

    image_by_image = True

    @property
    def side_of_whole_images(self) -> int | None:
        return self.augmentation.side_of_whole_images

    def draw(self, num_samples: int, generator: torch.Generator) -> Tensor:
        first = self.augmentation.draw(num_samples, generator)
        return torch.cat([first, torch.randint(0, BELOW, (num_samples, 1), generator=generator)], dim=1)

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        changed = self.augmentation(images, draws[:, :-1])
        return each_seeded(self._transform, changed, draws[:, -1])

    @cached_property
    def _transform(self) -> v2.Transform:
        return _POLICIES[self.policy]()


@dataclass(frozen=True)
class Cutout:
    """A square hole in every image. The part of it beyond the border of the image is lost.

    Args:
        side: side of the hole in pixels, an even number.
    Source: DeVries and Taylor 2017, arXiv:1708.04552, section 3.2, and the authors' release.
    """

    side: int

    def draw(self, num_samples: int, generator: torch.Generator) -> Tensor:
        """Random numbers for the centre of each hole, `[N, 2]` int64 on the CPU, for images of any size."""
        return torch.randint(0, BELOW, (num_samples, 2), generator=generator)

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """Normalised images `[B, C, H, W]`, set in place to 0, the mean colour, in the holes of `draws` `[B, 2]`."""
        in_rows_BH, in_columns_BW = (
            self._inside(below(centres_B, length)[:, None], length)
            for centres_B, length in zip(draws.unbind(dim=1), images.shape[2:], strict=True)
        )
        return images.masked_fill_(in_rows_BH[:, None, :, None] & in_columns_BW[:, None, None, :], 0.0)

    def _inside(self, centres_B1: Tensor, length: int) -> Tensor:
        distance_BL = torch.arange(length, device=centres_B1.device) - centres_B1
        return (distance_BL >= -(self.side // 2)) & (distance_BL < self.side // 2)


class Mixing:
    """Mixup or CutMix of torchvision. All images of a batch have one share, and each is mixed with its neighbour.

    Batches have a random order, so neighbours are random pairs.

    Args:
        mixup: alpha of Mixup, 0 for none.
        cutmix: alpha of CutMix, 0 for none; one of the two is above 0.
        num_classes: K.
    Source: Zhang et al. 2018, arXiv:1710.09412, section 2; Yun et al. 2019, arXiv:1905.04899, section 3.
    """

    def __init__(self, mixup: float, cutmix: float, num_classes: int) -> None:
        kinds = ((v2.MixUp, mixup), (v2.CutMix, cutmix))
        self._kinds = [kind(alpha=float(alpha), num_classes=num_classes) for kind, alpha in kinds if alpha]

    def __call__(self, images: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Mixed images `[B, C, H, W]` and their soft labels `[B, K]` float32.

        Args:
            images: `[B, C, H, W]` floating.
            labels: `[B]` int64.
            seed: seed of the draw of kind, share and place.
        """
        with seeded(seed):
            kind = self._kinds[int(torch.randint(len(self._kinds), ()))]
            mixed: tuple[Tensor, Tensor] = kind(images, labels)
        return mixed
