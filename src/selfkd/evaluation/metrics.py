"""Metrics: functions of predictions that add up over batches, and so need no logits of a whole split at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, distributed
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy

from selfkd.evaluation.predictions import Predictions, SplitBatches, refuse_non_finite, shared_predictions
from selfkd.evaluation.scores import Score, Scores, percent
from selfkd.methods.base import Method
from selfkd.process_group import process_count

__all__ = ["METRICS", "ClassificationMetric", "HeadMetrics", "evaluate", "measure"]


@dataclass(frozen=True)
class ClassificationMetric:
    """A figure of one head.

    Args:
        create: from the number of classes K to a metric of logits `[B, K]` and labels `[B]`, or to None where the
            figure says nothing.
        score: from what the metric gives and the number of samples to the figure with its unit: `percent` of a
            fraction.
    """

    create: Callable[[int], Metric | None]
    score: Callable[[float, int], Score]


def _accuracy(k: int) -> Callable[[int], Metric | None]:
    """Whether the label is among the k likeliest classes; nothing where it always is."""

    def create(num_classes: int) -> Metric | None:
        if k >= num_classes:
            return None
        return MulticlassAccuracy(num_classes, top_k=k, average="micro", validate_args=False)

    return create


METRICS: Mapping[str, ClassificationMetric] = {
    "top1": ClassificationMetric(_accuracy(1), percent),
    "top5": ClassificationMetric(_accuracy(5), percent),
}
"""What is measured of every head, by name."""


class HeadMetrics:
    """All metrics of several heads, accumulated over batches on their device.

    Logits that are NaN or infinite have no accuracy, though a largest one would be found; that there are some is noted
    on the device too, so that no batch waits for it.

    Args:
        num_classes: K.
        device: where the logits are.
        shared: whether connected processes each see a share, which `compute` adds up.
    """

    def __init__(self, num_classes: int, device: torch.device | str, shared: bool = True) -> None:
        self.num_classes = num_classes
        self.device = device
        self.shared = shared and process_count() > 1
        self._metrics: dict[str, dict[str, Metric]] = {}
        self._wrong: dict[str, Tensor] = {}  # how many logits are NaN or infinite
        self._samples = 0

    def update(self, logits: Mapping[str, Tensor], labels: Tensor) -> None:
        """Count one batch: `logits` by head `[B, K]`, `labels` `[B]`; B may be 0."""
        self._samples += len(labels)
        for head, logits_BK in logits.items():
            if head not in self._metrics:
                self._metrics[head] = self._fresh()
                self._wrong[head] = torch.zeros((), dtype=torch.int64, device=self.device)
            self._wrong[head] += (~logits_BK.isfinite()).sum()
            for metric in self._metrics[head].values() if len(labels) else ():
                metric.update(logits_BK, labels)

    def compute(self) -> Scores:
        """The scores of everything counted so far, by all processes that evaluate together.

        Raises: NonFiniteLossError: in all of them, naming the heads, if a logit is NaN or infinite.
        """
        counted = torch.stack([torch.tensor(self._samples, device=self.device), *self._wrong.values()])
        if self.shared:
            distributed.all_reduce(counted)
        samples, *wrong = counted.tolist()
        refuse_non_finite(dict(zip(self._wrong, wrong, strict=True)))
        return {
            head: {name: METRICS[name].score(float(metric.compute()), samples) for name, metric in metrics.items()}
            for head, metrics in self._metrics.items()
        }

    def _fresh(self) -> dict[str, Metric]:
        metrics = {name: metric.create(self.num_classes) for name, metric in METRICS.items()}
        for metric in metrics.values():
            if metric is not None:
                metric.sync_on_compute = self.shared
        return {name: metric.to(self.device) for name, metric in metrics.items() if metric is not None}


def measure(predictions: Predictions) -> Scores:
    """Scores of predictions that were collected; of a whole split, those that `evaluate` gives.

    Args:
        predictions: on any device, the same in all processes.
    Raises: NonFiniteLossError: naming the heads, if a logit is NaN or infinite.
    """
    num_classes = next(iter(predictions.logits.values())).shape[1]
    metrics = HeadMetrics(num_classes, predictions.labels.device, shared=False)
    metrics.update(predictions.logits, predictions.labels)
    return metrics.compute()


def evaluate(method: Method, loader: SplitBatches, device: torch.device | str) -> Scores:
    """Scores of every head over a whole split, in eval mode and float32; every part's mode is restored.

    Metrics are accumulated batch by batch: a run evaluates every epoch, and the training split too, of which ImageNet's
    logits would take 5 GB a head. Processes that are connected share out the split, and each gets the scores of all of
    it.

    Args:
        method: on `device`.
        loader: batches of a split; moved to `device`. Only images that have a label count.
        device: where to compute.
    Raises: NonFiniteLossError: in all processes, naming the heads, if a logit of theirs is NaN or infinite.
    """
    metrics = HeadMetrics(method.num_classes, device)
    for predictions in shared_predictions(method, loader, device):
        metrics.update(predictions.logits, predictions.labels)
    return metrics.compute()
