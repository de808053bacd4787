"""Means over runs, and paired differences with their 95 % intervals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

from selfkd.evaluation.scores import digits

__all__ = ["RESAMPLES", "Difference", "Estimate", "paired_over_images", "paired_over_seeds"]

RESAMPLES = 10_000
"""Bootstrap samples of an interval over images."""

_QUANTILES = (0.025, 0.975)
_SEED = 0


@dataclass(frozen=True)
class Estimate:
    """The mean and the spread of a percentage over runs, as papers give them.

    Args:
        mean: arithmetic mean.
        std: sample standard deviation (divided by n - 1); None for a single run.
        n: number of runs.
        values: the percentage of each run.
    """

    mean: float
    std: float | None
    n: int
    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        """The estimate from at least one value, one for each run."""
        std = statistics.stdev(values) if len(values) > 1 else None
        return cls(statistics.fmean(values), std, len(values), tuple(values))

    def __str__(self) -> str:
        mean = digits(self.mean, "%")
        return mean if self.std is None else f"{mean} ± {digits(self.std, '%')}"


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences of a percentage, in points.

    Args:
        mean: arithmetic mean.
        low: lower end of the 95 % interval of the mean; None if a single pair gives no interval.
        high: its upper end.
        n: number of pairs.
    """

    mean: float
    low: float | None
    high: float | None
    n: int

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.mean:+.2f}"
        return f"{self.mean:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


def paired_over_seeds(ours: Mapping[int, float], baseline: Mapping[int, float]) -> Difference | None:
    """The mean of the differences between runs of the same seed, with Student's interval.

    Args:
        ours: accuracy in percent by seed.
        baseline: that of the baseline.
    Returns: None if there is no seed that both have.
    """
    differences = [value - baseline[seed] for seed, value in ours.items() if seed in baseline]
    if not differences:
        return None
    mean, n = statistics.fmean(differences), len(differences)
    if n == 1:
        return Difference(mean, None, None, 1)
    half_width = float(student_t.ppf(_QUANTILES[1], n - 1)) * statistics.stdev(differences) / math.sqrt(n)
    return Difference(mean, mean - half_width, mean + half_width, n)


def paired_over_images(pairs: Sequence[tuple[NDArray[Any], NDArray[Any]]], same_images: bool) -> Difference:
    """The mean of the differences on the same images, with the percentile interval of a bootstrap over the images.

    The interval tells what other test images would change. It does not know what other seeds would change.

    Args:
        pairs: for each seed, whether each image `[N]` is classified correctly, or which share of several heads does
            so, in [0, 1]: by our run, and by the baseline's.
        same_images: whether all seeds have the same images. Then the difference of an image is its mean over the seeds.
            Otherwise the images of all seeds are resampled together.
    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, section 13.3.
    """
    signs = [np.subtract(ours, baseline, dtype=np.float64) for ours, baseline in pairs]
    sums, seeds = (np.sum(signs, axis=0), len(signs)) if same_images else (np.concatenate(signs), 1)
    points, n = 100 / seeds, len(sums)
    # How often each distinct value is in a sample of n values, drawn with replacement, is multinomial.
    values, counts = np.unique(sums, return_counts=True)
    drawn = np.random.default_rng(_SEED).multinomial(n, counts / n, size=RESAMPLES)
    low, high = np.quantile(drawn @ values, _QUANTILES)
    return Difference(float(sums.mean() * points), float(low / n * points), float(high / n * points), n)
