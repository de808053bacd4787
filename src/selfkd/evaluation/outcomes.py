"""The outcome of each image for one head: all that the metrics of a split need to know of its logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Outcomes"]

_TOP = 5


@dataclass(frozen=True)
class Outcomes:
    """The outcomes of N labelled images for one head.

    They take 41 bytes for each image, however many classes there are, so the logits need not be kept. The order of
    confidence takes up to 16 more.

    Args:
        labels: `[N]` int64.
        predicted: `[N]` int64, the most probable class.
        confidence: `[N]` float64 in (0, 1], the probability of that class.
        in_top5: `[N]` bool, whether the label is among the five most probable classes.
        nll: `[N]` float64, the negative logarithm of the label's probability, in nat.
        brier: `[N]` float64 in [0, 2], the squared distance between the probabilities and the one-hot label.
    Source: of the last, Brier 1950, Verification of forecasts expressed in terms of probability, Monthly Weather Review
        78.
    """

    labels: Tensor
    predicted: Tensor
    confidence: Tensor
    in_top5: Tensor
    nll: Tensor
    brier: Tensor

    @classmethod
    def of(cls, logits_BK: Tensor, labels_B: Tensor) -> Outcomes:
        """The outcomes of one batch, in main memory.

        Probabilities are computed in float64. In float32 many confidences would be rounded to 1, so that they tie.
        """
        wide_BK = logits_BK.double()
        probabilities_BK = wide_BK.softmax(dim=1)
        predicted_B = logits_BK.argmax(dim=1)
        top_BC = logits_BK.topk(min(_TOP, logits_BK.shape[1]), dim=1).indices
        of_label_B = probabilities_BK.gather(1, labels_B[:, None]).squeeze(1)
        outcomes = cls(
            labels=labels_B,
            predicted=predicted_B,
            confidence=probabilities_BK.gather(1, predicted_B[:, None]).squeeze(1),
            in_top5=top_BC.eq(labels_B[:, None]).any(dim=1),
            nll=functional.cross_entropy(wide_BK, labels_B, reduction="none"),
            brier=probabilities_BK.square().sum(dim=1) - 2 * of_label_B + 1,
        )
        return cls(*(values.cpu() for values in outcomes._fields))

    @classmethod
    def joined(cls, parts: Sequence[Outcomes]) -> Outcomes:
        """The outcomes of one or more batches, one batch after the other."""
        return cls(*(torch.cat(values) for values in zip(*(part._fields for part in parts), strict=True)))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def correct(self) -> Tensor:
        """`[N]` bool, whether the most probable class is the label."""
        return self.predicted == self.labels

    @cached_property
    def by_confidence(self) -> tuple[Tensor, Tensor]:
        """The images in order of confidence, highest first, and where equal confidences end.

        Returns: positions of the images `[N]`; for each of the G different confidences, the place of its last image in
            that order `[G]`.
        """
        sorted_N, order_N = self.confidence.sort(descending=True, stable=True)
        _, sizes_G = torch.unique_consecutive(sorted_N, return_counts=True)
        return order_N, sizes_G.cumsum(0) - 1

    @property
    def _fields(self) -> tuple[Tensor, ...]:
        return self.labels, self.predicted, self.confidence, self.in_top5, self.nll, self.brier
