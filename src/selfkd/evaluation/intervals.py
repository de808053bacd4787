"""Intervals of the metrics of a split, by bootstrap over its images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from selfkd.evaluation.outcomes import Outcomes
from selfkd.evaluation.split_metrics import SplitMetric

__all__ = ["LEVEL", "SAMPLES", "bootstrap_intervals", "drawn_samples"]

SAMPLES = 1000
"""Number of bootstrap samples."""
LEVEL = 0.95
"""Share of the samples inside an interval."""

_SEED = 0
_LARGEST_CHUNK = 1_000_000  # counts that are in memory together, of 8 bytes each


def bootstrap_intervals(
    outcomes: Mapping[str, Outcomes], metrics: Mapping[str, SplitMetric]
) -> dict[str, dict[str, tuple[float, float]]]:
    """The 95 % interval of every metric of every head, by the percentile bootstrap.

    1,000 samples of N images are drawn from the N images with replacement, by a fixed seed and the same for all heads.
    Every metric is computed for each sample; its interval reaches from the 2.5 % to the 97.5 % quantile. If the metric
    grows by chance, the interval is moved by the difference between the metric and its mean over the samples, and ends
    at 0; otherwise it might not contain the metric. An interval tells how much other images would change the metric,
    not how much another training would.

    Args:
        outcomes: by head, of the same N >= 1 images.
        metrics: by name.
    Returns: head name to metric name to the ends of the interval, in the unit of `SplitMetric.of_samples`.
    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapters 10 (bias) and 13 (intervals).
    """
    images = len(next(iter(outcomes.values())))
    samples: dict[tuple[str, str], list[Tensor]] = {(head, name): [] for head in outcomes for name in metrics}
    with _bar(len(samples) * SAMPLES) as bar:
        for counts_RN in drawn_samples(images):
            for (head, name), values in samples.items():
                values.append(metrics[name].of_samples(outcomes[head], counts_RN))
                bar.update(len(counts_RN))
    intervals: dict[str, dict[str, tuple[float, float]]] = {head: {} for head in outcomes}
    for (head, name), values in samples.items():
        intervals[head][name] = _interval(torch.cat(values), metrics[name], outcomes[head])
    return intervals


def drawn_samples(images: int) -> Iterator[Tensor]:
    """How often each of the samples holds each image, `[R, N]` float64 for some samples at a time, whose rows sum to N.

    Args:
        images: N.
    """
    generator = torch.Generator().manual_seed(_SEED)
    most = max(1, _LARGEST_CHUNK // images)
    for start in range(0, SAMPLES, most):
        drawn = (
            torch.randint(images, (images,), generator=generator).bincount(minlength=images)
            for _ in range(start, min(start + most, SAMPLES))
        )
        yield torch.stack(list(drawn)).double()


def _interval(values_R: Tensor, metric: SplitMetric, outcomes: Outcomes) -> tuple[float, float]:
    ends = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=torch.float64)
    low, high = values_R.quantile(ends).tolist()
    if not metric.grows_by_chance:
        return low, high
    bias = float(values_R.mean()) - metric.value(outcomes)
    return max(low - bias, 0.0), high - bias


def _bar(total: int) -> tqdm[Any]:
    return tqdm(total=total, desc="intervals", unit="value", unit_scale=True, delay=2, disable=None)
