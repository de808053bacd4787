"""The metrics of `selfkd evaluate`: functions of the outcomes of all images, also of a sample that repeats some.

Letters in shapes: N images, R samples of N images (a sample may hold an image several times), G different confidences.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics.functional.classification import binary_calibration_error

from selfkd.evaluation.outcomes import Outcomes
from selfkd.evaluation.scores import Score, percent

__all__ = ["BINS", "SPLIT_METRICS", "SplitMetric"]

BINS = 15
"""Number of bins of both calibration errors, as in Guo et al. 2017."""


@dataclass(frozen=True)
class SplitMetric:
    """A metric of one head over a whole split.

    Args:
        of_samples: takes the outcomes of N images, and how often each sample holds each image, `[R, N]` float64, whose
            rows sum to N. Returns the metric of every sample, `[R]`.
        score: takes the metric and N. Returns a score with its unit; for a fraction this is `percent`.
        of_split: takes the outcomes. Returns the metric, where a library computes it; the default is `of_samples` of
            one sample that holds each image once.
        least_classes: least number of classes K with which the metric says something.
        grows_by_chance: whether chance makes the metric larger, as it does with a sum of absolute differences. A sample
            then has more of it than the split that it was drawn from. Such a metric is >= 0.
    """

    of_samples: Callable[[Outcomes, Tensor], Tensor]
    score: Callable[[float, int], Score]
    of_split: Callable[[Outcomes], float] | None = None
    least_classes: int = 2
    grows_by_chance: bool = False

    def value(self, outcomes: Outcomes) -> float:
        """The metric of a split."""
        if self.of_split is not None:
            return self.of_split(outcomes)
        return float(self.of_samples(outcomes, torch.ones(1, len(outcomes), dtype=torch.float64)))


def _mean_of(values: Callable[[Outcomes], Tensor]) -> Callable[[Outcomes, Tensor], Tensor]:
    """The metric that is the mean of a value `[N]` of each image."""

    def of_samples(outcomes: Outcomes, counts_RN: Tensor) -> Tensor:
        return counts_RN @ values(outcomes).double() / len(outcomes)

    return of_samples


def _torch_calibration_error(outcomes: Outcomes) -> float:
    """The expected calibration error: the calibration error of the binary event that the prediction is right.

    Source: Guo et al. 2017, arXiv:1706.04599, section 2 (ECE).
    """
    return float(binary_calibration_error(outcomes.confidence, outcomes.correct.long(), n_bins=BINS, norm="l1"))


def _calibration_error(outcomes: Outcomes, counts_RN: Tensor) -> Tensor:
    """`sum over bins b of |sum of (correct - confidence) over b's images| / N`, with bins of equal width in [0, 1].

    A confidence on an edge belongs to the upper bin, as in torchmetrics.
    """
    edges = torch.linspace(0, 1, BINS + 1, dtype=torch.float64)
    bin_N = torch.bucketize(outcomes.confidence, edges, right=True) - 1  # a confidence of 1 has a bin of its own
    gap_N = outcomes.correct.double() - outcomes.confidence
    gaps_RB = torch.zeros(len(counts_RN), BINS + 1, dtype=torch.float64).index_add_(1, bin_N, counts_RN * gap_N)
    return gaps_RB.abs().sum(dim=1) / len(outcomes)


def _adaptive_calibration_error(outcomes: Outcomes, counts_RN: Tensor) -> Tensor:
    """The calibration error with bins of equal counts: 15 parts of the images in order of confidence.

    The sizes of the parts differ by one image at most. Images of equal confidence count with their mean, so that their
    order does not matter.

    Source: Nixon et al. 2019, arXiv:1904.01685, section on adaptivity, of the predicted class alone; in this form
        Mukhoti et al. 2020, arXiv:2002.09437 (AdaECE).
    """
    images = len(outcomes)
    gap_N = outcomes.correct.double() - outcomes.confidence
    images_RG, gaps_RG = _sums_by_confidence(outcomes, counts_RN, gap_N)
    edges_RB = (torch.arange(BINS + 1) * images // BINS).double().expand(len(counts_RN), -1).contiguous()
    upper_RB = torch.searchsorted(images_RG, edges_RB).clamp(min=1)
    before_RB, after_RB = images_RG.gather(1, upper_RB - 1), images_RG.gather(1, upper_RB)
    # An edge among images of equal confidence divides their sum. Only the first edge can meet no image, where it is 0.
    share_RB = (edges_RB - before_RB) / (after_RB - before_RB).clamp(min=1)
    return gaps_RG.gather(1, upper_RB - 1).lerp(gaps_RG.gather(1, upper_RB), share_RB).diff().abs().sum(dim=1) / images


def _risk_coverage_area(outcomes: Outcomes, counts_RN: Tensor) -> Tensor:
    """The area under the risk-coverage curve, from 0 to 1.

    The curve gives the error rate of the k most confident predictions, and the area is its mean over k = 1 to N. Images
    of equal confidence count with their mean error, so that their order does not matter.

    Source: Geifman, Uziel and El-Yaniv 2019, arXiv:1805.08206, of the curve of Geifman and El-Yaniv 2017,
        arXiv:1705.08500, with the largest probability as confidence.
    """
    images = len(outcomes)
    images_RG, errors_RG = _sums_by_confidence(outcomes, counts_RN, (~outcomes.correct).double())
    harmonic = torch.cat([torch.zeros(1, dtype=torch.float64), torch.arange(1, images + 1).double().reciprocal()])
    harmonic_RG = harmonic.cumsum(0)[images_RG.round().long()]
    new_images_RG, new_errors_RG = images_RG.diff(), errors_RG.diff()
    rate_RG = new_errors_RG / new_images_RG.clamp(min=1)
    # Among images of one confidence, the rate after k images is (errors before + (k - images before) * rate) / k.
    constant_RG = errors_RG[:, :-1] - images_RG[:, :-1] * rate_RG
    return (new_errors_RG + constant_RG * harmonic_RG.diff()).sum(dim=1) / images


def _sums_by_confidence(outcomes: Outcomes, counts_RN: Tensor, values_N: Tensor) -> tuple[Tensor, Tensor]:
    """The number of images and the sum of their values, over the images of at least each different confidence.

    Returns: both `[R, 1 + G]`, highest confidence first, after a zero.
    """
    order_N, ends_G = outcomes.by_confidence
    ordered_RN = counts_RN[:, order_N]
    images_RG = ordered_RN.cumsum(dim=1)[:, ends_G]
    sums_RG = ordered_RN.mul_(values_N[order_N]).cumsum(dim=1)[:, ends_G]
    return functional.pad(images_RG, (1, 0)), functional.pad(sums_RG, (1, 0))


def _nat(value: float, n: int) -> Score:
    return Score(value=value, unit="nat", n=n)


def _pure_number(value: float, n: int) -> Score:
    return Score(value=value, unit="", n=n)


SPLIT_METRICS: Mapping[str, SplitMetric] = {
    "top1": SplitMetric(_mean_of(lambda outcomes: outcomes.correct), percent),
    "top5": SplitMetric(_mean_of(lambda outcomes: outcomes.in_top5), percent, least_classes=6),
    "nll": SplitMetric(_mean_of(lambda outcomes: outcomes.nll), _nat),
    "brier": SplitMetric(_mean_of(lambda outcomes: outcomes.brier), _pure_number),
    "ece": SplitMetric(_calibration_error, percent, _torch_calibration_error, grows_by_chance=True),
    "adaptive_ece": SplitMetric(_adaptive_calibration_error, percent, grows_by_chance=True),
    "aurc": SplitMetric(_risk_coverage_area, _pure_number),
}
"""The metrics of `selfkd evaluate`, by name. One that `METRICS` has too keeps the value of `METRICS`."""
