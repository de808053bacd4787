"""Random parts of a labelled set. They depend on labels and seed alone, so all methods get the same samples."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from selfkd.errors import OptionError

__all__ = ["held_out", "some_of_each_class"]


def some_of_each_class(labels: NDArray[np.int64], count: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of `count` samples of every class, and positions of all other samples; each sorted.

    With the same seed, the samples of a smaller count are among those of a larger count.

    Args:
        labels: `[N]`.
        count: number of samples of each class; a smaller class gives all its samples.
        seed: seed of the draw.
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
    """Positions of the samples that stay and of those that are held out, stratified; each sorted.

    Every class keeps a sample and gives a sample.

    Args:
        labels: `[N]`.
        fraction: share to hold out, in (0, 1).
        seed: seed of the draw.
        option: name of the option that gave the fraction, for the error.
        class_names: K names in label order, for the error.
    Raises: OptionError: if a class is too small for this share. The error names the class and the possible shares.
    """
    sizes = np.bincount(labels, minlength=len(class_names))
    num_classes, smallest = np.count_nonzero(sizes), int(sizes[sizes > 0].min())
    num_held_out = math.ceil(fraction * len(labels))  # as scikit-learn counts
    if smallest > 1 and num_classes <= num_held_out <= len(labels) - num_classes:
        kept, given = train_test_split(np.arange(len(labels)), test_size=fraction, stratify=labels, random_state=seed)
        if len(np.unique(labels[kept])) == num_classes:
            return np.sort(kept), np.sort(given)
    name = class_names[int(np.flatnonzero(sizes == smallest)[0])]
    reason = _possible_shares(len(labels), int(num_classes), smallest, name)
    raise OptionError(option, fraction, reason=f"every class must give an image and keep one, {reason}")


def _possible_shares(total: int, num_classes: int, smallest: int, name: str) -> str:
    """The shares that can be held out, in words that follow "every class must give an image and keep one,".

    Args:
        total: number of samples.
        num_classes: number of classes with samples.
        smallest: size of the smallest class.
        name: name of the smallest class.
    """
    if smallest < 2:
        return f"but {name!r} has only one; add images to this class, or leave it out with data.classes"
    precision = 10 ** len(str(total))  # a share rounded down to it still gives the same number of samples
    low = num_classes * precision // total / precision
    high = (total - math.ceil(total / smallest)) * precision // total / precision
    return f"and {name!r} has only {smallest} of {total}; set a share from {low} to {high}, or add images"
