"""The evaluation of a split: the scores of every head with intervals, classes, confusions and agreement."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from selfkd.evaluation.ensemble import ENSEMBLE, ensemble_members, with_ensemble
from selfkd.evaluation.intervals import bootstrap_intervals
from selfkd.evaluation.metrics import METRICS, HeadMetrics
from selfkd.evaluation.outcomes import Outcomes
from selfkd.evaluation.predictions import Predictions, count_non_finite, refuse_non_finite
from selfkd.evaluation.scores import Score, Scores
from selfkd.evaluation.split_metrics import SPLIT_METRICS
from selfkd.evaluation.temperature import fit_temperature

__all__ = [
    "Evaluation",
    "MeasuredSplit",
    "TemperatureScaling",
    "agreement",
    "class_accuracies",
    "confusion_matrix",
    "measure_split",
    "scale_temperatures",
]


_log = logging.getLogger("selfkd")


@dataclass(frozen=True)
class TemperatureScaling:
    """The scores of a split before and after temperature scaling, of the same images.

    Args:
        fitted_on: the images on which the temperatures were fitted, in words.
        fitted_images: their number.
        measured_on: the images of the scores, in words.
        measured_images: their number.
        temperatures: by head, dimensionless.
        before: scores with the temperature 1.
        after: scores with the fitted temperatures.
    """

    fitted_on: str
    fitted_images: int
    measured_on: str
    measured_images: int
    temperatures: Mapping[str, float]
    before: Scores
    after: Scores


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of a run on labelled images. Classes are in label order; the ensemble counts as a head.

    Args:
        run: the run's folder.
        split: name of the run's split that was evaluated; None for other images.
        data: the path of the other images, or the name of their Dataset; None for a split.
        data_kind: "folder", "CSV file" or "Dataset"; None for a split.
        checkpoint: "last" or "best", the epoch of the weights.
        epoch: that epoch, counted from 1.
        class_names: K names.
        images_per_class: number of images of each class, 0 for a class that the images lack.
        scores: head to metric to score. An interval is that of the bootstrap over images.
        ensemble: the heads whose probabilities the ensemble averages; empty if there is no such ensemble.
        class_accuracies: head to the percentage of right predictions among the images of each class; None for a class
            without images.
        agreement: two heads to the percentage of images for which both predict the same class.
        confusion: K rows, of the labels; each has K numbers of images, of the main head's predictions.
        temperature: the scores before and after temperature scaling, if it was asked for.
    """

    run: str
    split: str | None
    data: str | None
    data_kind: Literal["folder", "CSV file", "Dataset"] | None
    checkpoint: str
    epoch: int
    class_names: tuple[str, ...]
    images_per_class: tuple[int, ...]
    scores: Scores
    ensemble: tuple[str, ...]
    class_accuracies: Mapping[str, tuple[float | None, ...]]
    agreement: Mapping[str, Mapping[str, float]]
    confusion: tuple[tuple[int, ...], ...]
    temperature: TemperatureScaling | None = None

    @property
    def images(self) -> int:
        """N, the number of images."""
        return sum(self.images_per_class)

    @property
    def absent_classes(self) -> tuple[str, ...]:
        """The names of the classes without images."""
        return tuple(name for name, count in zip(self.class_names, self.images_per_class, strict=True) if not count)

    def as_dict(self) -> dict[str, Any]:
        """The same as mappings, lists, numbers and text, which `selfkd.json_text.to_json` writes."""
        return asdict(self)


@dataclass(frozen=True)
class MeasuredSplit:
    """The scores of every head, and the outcomes that they were computed from. The ensemble counts as a head.

    Args:
        scores: head to metric to score.
        outcomes: by head.
        ensemble: the heads whose probabilities the ensemble averages; empty if there is no such ensemble.
    """

    scores: Scores
    outcomes: Mapping[str, Outcomes]
    ensemble: tuple[str, ...]


def measure_split(
    batches: Iterable[Predictions], num_classes: int, device: torch.device | str = "cpu"
) -> MeasuredSplit:
    """Measure every head and the ensemble, with intervals. No logits are kept.

    Args:
        batches: the predictions of at least one image, on `device`.
        num_classes: K.
        device: of the predictions.
    Raises: NonFiniteLossError: naming the heads, if a logit is NaN or infinite.
    """
    metrics = HeadMetrics(num_classes, device, sharded=False)
    parts: dict[str, list[Outcomes]] = {}
    members: tuple[str, ...] = ()
    for predictions in batches:
        refuse_non_finite(count_non_finite(predictions.logits))  # before the ensemble, which is no head of the method
        members, logits = ensemble_members(predictions.logits), with_ensemble(predictions.logits)
        metrics.update(logits, predictions.labels)
        for head, logits_BK in logits.items():
            parts.setdefault(head, []).append(Outcomes.of(logits_BK, predictions.labels))
    scores = metrics.compute()
    outcomes = {head: Outcomes.joined(each) for head, each in parts.items()}
    fitting = {name: metric for name, metric in SPLIT_METRICS.items() if num_classes >= metric.least_classes}
    intervals = bootstrap_intervals(outcomes, fitting)
    for head, of_head in outcomes.items():
        for name, metric in fitting.items():
            images = len(of_head)
            score = scores[head][name] if name in METRICS else metric.score(metric.value(of_head), images)
            low, high = (metric.score(end, images)["value"] for end in intervals[head][name])
            scores[head][name] = Score(**{**score, "interval": (low, high)})
    return MeasuredSplit(scores, outcomes, members)


def class_accuracies(outcomes: Outcomes, num_classes: int) -> tuple[float | None, ...]:
    """The percentage of right predictions among the images of each class, `[K]`; None for a class without images."""
    images_K = outcomes.labels.bincount(minlength=num_classes)
    right_K = outcomes.labels[outcomes.correct].bincount(minlength=num_classes)
    pairs = zip(right_K.tolist(), images_K.tolist(), strict=True)
    return tuple(round(100 * right / images, 4) if images else None for right, images in pairs)


def agreement(outcomes: Mapping[str, Outcomes]) -> dict[str, dict[str, float]]:
    """For every two heads, the percentage of images for which both predict the same class."""
    return {
        head: {
            other: round(100 * float(first.predicted.eq(second.predicted).double().mean()), 4)
            for other, second in outcomes.items()
        }
        for head, first in outcomes.items()
    }


def confusion_matrix(outcomes: Outcomes, num_classes: int) -> tuple[tuple[int, ...], ...]:
    """The number of images of each label (row) and prediction (column), `[K][K]`."""
    matrix_KK = multiclass_confusion_matrix(outcomes.predicted, outcomes.labels, num_classes)
    return tuple(map(tuple, matrix_KK.tolist()))


def scale_temperatures(
    fitting: Predictions, measuring: Predictions, fitted_on: str, measured_on: str
) -> TemperatureScaling:
    """Fit a temperature for each head and for the ensemble, and measure others of its predictions with it.

    The temperature of the ensemble divides the logarithms of its probabilities.

    Args:
        fitting: predictions of the images to fit on, in main memory.
        measuring: predictions of the images to measure on, in main memory.
        fitted_on: the former images, in words.
        measured_on: the latter, in words.
    """
    temperatures = {}
    for head, logits_NK in _with_ensemble_in_batches(fitting).items():
        temperatures[head] = fit_temperature(logits_NK, fitting.labels)
        if bool(logits_NK.argmax(dim=1).eq(fitting.labels).all()):
            _log.warning(
                "%s predicts all %d images right on which its temperature is fitted (%s), so no temperature is the "
                "best, and the one that was found is too small",
                head,
                len(fitting),
                fitted_on,
            )

    def scores(divisors: Mapping[str, float]) -> Scores:
        scaled = (
            Predictions(
                {head: logits_BK / divisors[head] for head, logits_BK in with_ensemble(batch.logits).items()},
                batch.labels,
                batch.indices,
            )
            for batch in measuring.in_batches()
        )
        return measure_split(scaled, measuring.logits["main"].shape[1]).scores

    return TemperatureScaling(
        fitted_on=fitted_on,
        fitted_images=len(fitting),
        measured_on=measured_on,
        measured_images=len(measuring),
        temperatures=temperatures,
        before=scores(dict.fromkeys(temperatures, 1.0)),
        after=scores(temperatures),
    )


def _with_ensemble_in_batches(predictions: Predictions) -> dict[str, Tensor]:
    """As `with_ensemble`, which takes several times the memory of its batch."""
    members = ensemble_members(predictions.logits)
    if not members:
        return dict(predictions.logits)
    ensemble_NK = torch.cat([with_ensemble(batch.logits)[ENSEMBLE] for batch in predictions.in_batches()])
    return {**predictions.logits, ENSEMBLE: ensemble_NK}
