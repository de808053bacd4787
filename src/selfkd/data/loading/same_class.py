"""Draws other samples of the same class for every training sample, as CS-KD and BAKE need them."""

from __future__ import annotations

import torch
from torch import Tensor

from selfkd.data.augmentation.random_streams import BELOW, below

__all__ = ["SameClassSampler"]


class SameClassSampler:
    """Draws followers, samples of the same class, for every sample of a training set at once.

    Args:
        labels: `[N]` int64 >= 0.
        count: number of followers of each sample, >= 1.
        distinct: draw without replacement from the other samples of the class (BAKE). If there are fewer than `count`,
            draw with replacement; if there is none, the sample follows itself. False draws each follower from the
            whole class, the sample itself included (CS-KD).
    Source: Yun et al. 2020, arXiv:2003.13964; Ge et al. 2021, arXiv:2104.13298; both as their authors released them.
    """

    def __init__(self, labels: Tensor, count: int, distinct: bool) -> None:
        self.count = count
        self.distinct = distinct
        sizes_K = labels.bincount()
        self._by_class = labels.argsort(stable=True)
        self._start_N = (sizes_K.cumsum(0) - sizes_K)[labels]
        self._size_N = sizes_K[labels]
        self._rank_N = torch.empty_like(labels)
        self._rank_N[self._by_class] = torch.arange(len(labels)) - self._start_N[self._by_class]

    def draw(self, generator: torch.Generator) -> Tensor:
        """Followers of every sample, `[count, N]` int64: positions in the training set."""
        numbers = torch.randint(0, BELOW, (self.count, len(self._rank_N)), generator=generator)
        ranks = self._of_the_others(numbers) if self.distinct else below(numbers, self._size_N)
        return self._by_class[self._start_N + ranks]

    def _of_the_others(self, numbers: Tensor) -> Tensor:
        """Ranks within the class, chosen by the numbers from the samples that are not taken yet."""
        enough_N = self._size_N > self.count
        taken = [self._rank_N]  # rising, for every sample
        ranks = []
        for already, numbers_N in enumerate(numbers):
            left_N = (self._size_N - 1 - enough_N * already).clamp(min=1)
            rank_N = below(numbers_N, left_N)
            for taken_N in taken:
                rank_N = rank_N + (rank_N >= taken_N)
            rank_N = torch.minimum(rank_N, self._size_N - 1)  # a sample alone in its class follows itself
            ranks.append(rank_N)
            blocked_N = torch.where(enough_N, rank_N, torch.iinfo(torch.int64).max)
            taken = list(torch.stack([*taken, blocked_N]).sort(dim=0).values)
        return torch.stack(ranks)
