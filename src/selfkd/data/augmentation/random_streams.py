"""Streams of random numbers that depend on their purpose, and not on code that ran before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

__all__ = ["BELOW", "below", "each_seeded", "generator", "seed_of", "seeded"]

BELOW = 2**32
"""Random numbers without a known range are in [0, BELOW). `below` scales them; `seeded` takes them as seeds."""


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
    """Seed torch's own CPU generator, which torchvision uses, and restore its state at the end.

    Args:
        seed: in [0, BELOW); torch's CPU generator keeps 32 bits.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the accelerator as well
        yield


def each_seeded(change: Callable[[Tensor], Tensor], images: Tensor, seeds: Tensor) -> Tensor:
    """Images `[B, C, H, W]`, changed one by one; `seeds` `[B]` seed the random numbers of each."""
    changed = []
    for image, seed in zip(images, seeds.tolist(), strict=True):
        with seeded(seed):
            changed.append(change(image))
    return torch.stack(changed)
