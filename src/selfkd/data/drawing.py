"""Which samples are drawn from a labelled set: a function of labels and seed alone, so all methods get the same."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from selfkd.errors import OptionError

__all__ = ["held_out", "some_of_each_class"]


def some_of_each_class(labels: NDArray[np.int64], count: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of `count` samples of every class, and of all others; each sorted.

    A smaller count draws a part of what a larger one draws with the same seed.

    Args:
        labels: `[N]`.
        count: of each class; a class with fewer gives all it has.
        seed: decides which.
    """
    drawn = np.random.default_rng(seed).permutation(len(labels))
    rank_in_class = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = labels[drawn] == label
        rank_in_class[members] = np.arange(members.sum())
    chosen = rank_in_class < count
    return np.sort(drawn[chosen]), np.sort(drawn[~chosen])


def held_out(
    labels: NDArray[np.int64], fraction: float, seed: int, option: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of what stays and of what is held out, stratified; each sorted.

    Args:
        labels: `[N]`.
        fraction: share that is held out, in (0, 1).
        seed: decides which.
        option: the option that gave the fraction, for the error.
    Raises: OptionError: if not every class can give such a share.
    """
    try:
        kept, given = train_test_split(np.arange(len(labels)), test_size=fraction, stratify=labels, random_state=seed)
    except ValueError as error:
        raise OptionError(option, fraction, f"a share that every class can give: {error}") from error
    return np.sort(kept), np.sort(given)
