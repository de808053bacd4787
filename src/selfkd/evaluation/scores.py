"""How well every head of a method does on a split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sized
from typing import Protocol, TypedDict

import torch
from torch import Tensor, distributed
from torchmetrics.classification import MulticlassAccuracy

from selfkd.contract import Batch
from selfkd.errors import NonFiniteLossError
from selfkd.eval_mode import eval_mode
from selfkd.methods.base import Method
from selfkd.process_group import process_count, process_rank

__all__ = ["HeadMetrics", "Score", "Scores", "evaluate"]

_TOP_K = (1, 5)


class Score(TypedDict):
    """One measured number.

    Keys: `value`; `unit` ("%" or a name); `n`, how many samples it was measured on.
    """

    value: float
    unit: str
    n: int


Scores = dict[str, dict[str, Score]]
"""Head name to metric name to score."""


class _Loader(Iterable[Batch], Sized, Protocol):
    def to(self, device: torch.device | str) -> None: ...

    def share_out(self, rank: int, processes: int) -> None: ...


class HeadMetrics:
    """Top-1 and top-5 accuracy of several heads, accumulated over batches on their device.

    Top-5 is left out where there are at most five classes. Logits that are NaN or infinite have no accuracy, though a
    largest one would be found; that there are some is noted on the device too, so that no batch waits for it.

    Args:
        num_classes: K.
        device: where the logits are.
    """

    def __init__(self, num_classes: int, device: torch.device | str) -> None:
        self.num_classes = num_classes
        self.device = device
        self._metrics: dict[str, dict[str, MulticlassAccuracy]] = {}
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
        if process_count() > 1:
            distributed.all_reduce(counted)
        samples, *wrong = counted.tolist()
        heads = [head for head, number in zip(self._wrong, wrong, strict=True) if number]
        if heads:
            raise NonFiniteLossError(f"logits of {', '.join(heads)} are NaN or infinite")
        return {
            head: {
                name: Score(value=round(100 * float(metric.compute()), 4), unit="%", n=samples)
                for name, metric in metrics.items()
            }
            for head, metrics in self._metrics.items()
        }

    def _fresh(self) -> dict[str, MulticlassAccuracy]:
        return {
            f"top{k}": MulticlassAccuracy(self.num_classes, top_k=k, average="micro", validate_args=False).to(
                self.device
            )
            for k in _TOP_K
            if k < self.num_classes
        }


@torch.no_grad()
def evaluate(method: Method, loader: _Loader, device: torch.device | str) -> Scores:
    """Scores of every head over a whole split, in eval mode and float32; every part's mode is restored.

    Processes that are connected share out the split, and each gets the scores of all of it.

    Args:
        method: on `device`.
        loader: batches of a split; moved to `device`. Only images that have a label count.
        device: where to compute.
    Raises: NonFiniteLossError: in all processes, naming the heads, if a logit of theirs is NaN or infinite.
    """
    loader.to(device)
    loader.share_out(process_rank(), process_count())
    metrics = HeadMetrics(method.num_classes, device)
    with eval_mode(method):
        for batch in loader:
            logits = method.predict(batch.images)
            metrics.update({head: rows_BK[: len(batch.labels)] for head, rows_BK in logits.items()}, batch.labels)
    return metrics.compute()
