"""Which samples are drawn from a labelled set: a function of labels and seed alone, so all methods get the same."""

from __future__ import annotations

import math
from collections.abc import Sequence

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
    labels: NDArray[np.int64], fraction: float, seed: int, option: str, class_names: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of what stays and of what is held out, stratified; each sorted. Every class keeps a sample.

    Args:
        labels: `[N]`.
        fraction: share that is held out, in (0, 1).
        seed: decides which.
        option: the option that gave the fraction, for the error.
        class_names: K names in label order, for the error.
    Raises: OptionError: if a class is too small for such a share, naming it and the shares that are possible.
    """
    sizes = np.bincount(labels, minlength=len(class_names))
    num_classes, smallest = np.count_nonzero(sizes), int(sizes[sizes > 0].min())
    num_held_out = math.ceil(fraction * len(labels))  # as scikit-learn counts, which needs one for each class, too
    if smallest > 1 and num_classes <= num_held_out <= len(labels) - num_classes:
        kept, given = train_test_split(np.arange(len(labels)), test_size=fraction, stratify=labels, random_state=seed)
        if len(np.unique(labels[kept])) == num_classes:
            return np.sort(kept), np.sort(given)
    name = class_names[int(np.flatnonzero(sizes == smallest)[0])]
    raise OptionError(option, fraction, _possible(len(labels), int(num_classes), smallest, name))


def _possible(total: int, num_classes: int, smallest: int, name: str) -> str:
    """Which share can be held out, in words.

    Args:
        total: number of samples.
        num_classes: that have any.
        smallest: size of the smallest class.
        name: of that class.
    """
    what = "a share that every class can give, keeping an image"
    if smallest < 2:
        return f"{what}: {name!r} has only one, so there is none; give it more, or leave it out with data.classes"
    precision = 10 ** len(str(total))  # rounded down, a share still means as many samples
    low = num_classes * precision // total / precision
    high = (total - math.ceil(total / smallest)) * precision // total / precision
    return f"{what}: from {low} to {high}, as {name!r} has {smallest} of {total}"
