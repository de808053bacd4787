"""The metrics of every evaluated epoch. They add up over batches, so that no logits of a whole split are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, distributed
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy

from selfkd.evaluation.predictions import Predictions, SplitBatches, gathered, predict_batches, refuse_non_finite
from selfkd.evaluation.scores import Score, Scores, percent
from selfkd.methods.base import Method
from selfkd.process_group import process_count

__all__ = ["METRICS", "ClassificationMetric", "HeadMetrics", "evaluate", "evaluate_and_collect"]


@dataclass(frozen=True)
class ClassificationMetric:
    """A metric of one head.

    Args:
        create: takes the number of classes K. Returns a metric of logits `[B, K]` and labels `[B]`, or None where the
            metric says nothing.
        score: takes the metric's value and the number of samples. Returns a score with its unit; for a fraction this
            is `percent`.
    """

    create: Callable[[int], Metric | None]
    score: Callable[[float, int], Score]


def _accuracy(k: int) -> Callable[[int], Metric | None]:
    """The share of labels among the k most probable classes. With k classes or fewer it says nothing."""

    def create(num_classes: int) -> Metric | None:
        if k >= num_classes:
            return None
        return MulticlassAccuracy(num_classes, top_k=k, average="micro", validate_args=False)

    return create


METRICS: Mapping[str, ClassificationMetric] = {
    "top1": ClassificationMetric(_accuracy(1), percent),
    "top5": ClassificationMetric(_accuracy(5), percent),
}
"""The metrics of every evaluated epoch, by name. `selfkd evaluate` also has those of `SPLIT_METRICS`."""


class HeadMetrics:
    """All metrics of several heads, accumulated over batches on their device.

    Logits that are NaN or infinite have no accuracy, although one of them would be the largest. They are counted on the
    device, so that no batch waits for it.

    Args:
        num_classes: K.
        device: of the logits.
        sharded: whether each connected process sees a shard of the split. `compute` then adds up the shards.
    """

    def __init__(self, num_classes: int, device: torch.device | str, sharded: bool = True) -> None:
        self.num_classes = num_classes
        self.device = device
        self.sharded = sharded and process_count() > 1
        self._metrics: dict[str, dict[str, Metric]] = {}
        self._non_finite: dict[str, Tensor] = {}  # number of logits that are NaN or infinite
        self._samples = 0

    def update(self, logits: Mapping[str, Tensor], labels: Tensor) -> None:
        """Add one batch: `logits` by head `[B, K]`, `labels` `[B]`. B may be 0."""
        self._samples += len(labels)
        for head, logits_BK in logits.items():
            if head not in self._metrics:
                self._metrics[head] = self._new_metrics()
                self._non_finite[head] = torch.zeros((), dtype=torch.int64, device=self.device)
            self._non_finite[head] += (~logits_BK.isfinite()).sum()
            for metric in self._metrics[head].values() if len(labels) else ():
                metric.update(logits_BK, labels)

    def compute(self) -> Scores:
        """The scores of all batches so far, of all processes that evaluate together.

        Raises: NonFiniteLossError: in all processes, naming the heads, if a logit is NaN or infinite.
        """
        counted = torch.stack([torch.tensor(self._samples, device=self.device), *self._non_finite.values()])
        if self.sharded:
            distributed.all_reduce(counted)
        samples, *non_finite = counted.tolist()
        refuse_non_finite(dict(zip(self._non_finite, non_finite, strict=True)))
        return {
            head: {name: METRICS[name].score(float(metric.compute()), samples) for name, metric in metrics.items()}
            for head, metrics in self._metrics.items()
        }

    def _new_metrics(self) -> dict[str, Metric]:
        metrics = {name: metric.create(self.num_classes) for name, metric in METRICS.items()}
        for metric in metrics.values():
            if metric is not None:
                metric.sync_on_compute = self.sharded
        return {name: metric.to(self.device) for name, metric in metrics.items() if metric is not None}


def evaluate(method: Method, loader: SplitBatches, device: torch.device | str) -> Scores:
    """The scores of every head over a whole split, in eval mode and float32. Every module's mode is restored.

    Metrics are accumulated batch by batch, because the logits of ImageNet's training split would take 5 GB for each
    head. Each connected process evaluates a shard of the split, and each gets the scores of the whole split.

    Args:
        method: on `device`.
        loader: batches of a split, which are moved to `device`. Only images with a label count.
        device: on which to compute.
    Raises: NonFiniteLossError: in all processes, naming the heads, if a logit is NaN or infinite.
    """
    metrics = HeadMetrics(method.num_classes, device)
    for predictions in predict_batches(method, loader, device):
        metrics.update(predictions.logits, predictions.labels)
    return metrics.compute()


def evaluate_and_collect(
    method: Method, loader: SplitBatches, device: torch.device | str
) -> tuple[Scores, Predictions]:
    """The scores of `evaluate` and the predictions of `collect`, from one pass over the split.

    Args and raises: as for both.
    """
    metrics = HeadMetrics(method.num_classes, device)
    parts = []
    for predictions in predict_batches(method, loader, device):
        metrics.update(predictions.logits, predictions.labels)
        parts.append(predictions.map(Tensor.cpu))
    return metrics.compute(), gathered(parts, device)
