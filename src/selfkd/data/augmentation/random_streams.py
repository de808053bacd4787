"""Streams of random numbers that depend on what they are for and on nothing that ran before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

__all__ = ["BELOW", "below", "each_seeded", "generator", "seed_of", "seeded"]

BELOW = 2**32
"""Numbers drawn before their range is known lie in [0, BELOW); `below` scales them, `seeded` takes them as seeds."""


def generator(*key: int) -> torch.Generator:
    """A generator on the CPU whose stream depends on the key alone.

    Streams of different keys are independent, but trailing zeros do not count: (1, 2) and (1, 2, 0) are one key.
    """
    state = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(state)


def seed_of(*key: int) -> int:
    """A seed for `seeded`; keys as in `generator`."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint32)[0])


def below(numbers: Tensor, limit: int | Tensor) -> Tensor:
    """Uniform int64 in [0, BELOW) as uniform int64 in [0, limit), for limits far below 2^31."""
    return numbers * limit >> 32


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let torch's own CPU generator, from which torchvision draws, start from a seed, and leave it as it was.

    Args:
        seed: in [0, BELOW); torch's CPU generator keeps 32 bits.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the accelerator as well
        yield


def each_seeded(change: Callable[[Tensor], Tensor], images: Tensor, seeds: Tensor) -> Tensor:
    """Images `[B, C, H, W]` changed one by one, what is random in it seeded by `seeds` `[B]`; stacked again."""
    changed = []
    for image, seed in zip(images, seeds.tolist(), strict=True):
        with seeded(seed):
            changed.append(change(image))
    return torch.stack(changed)
