"""The label itself."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cross_entropy

from selfkd.contract import Batch
from selfkd.losses import full_precision, label_probabilities
from selfkd.supervision.base import Supervision

__all__ = ["Labels"]


class Labels(Supervision):
    """The label itself, for every head; the default."""

    def target(self, head: str, batch: Batch) -> Tensor:
        return label_probabilities(batch.labels, self.num_classes)

    def loss(self, head: str, logits: Tensor, batch: Batch) -> Tensor:
        # With class indices torch needs no distribution for each row.
        return cross_entropy(full_precision(logits), batch.for_images(batch.labels, len(logits)))
