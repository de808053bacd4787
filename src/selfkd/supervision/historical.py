"""The label mixed with the head's own prediction for the same sample in the previous epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from selfkd.contract import Batch, DatasetInfo, Progress, StepOutput
from selfkd.history import History
from selfkd.losses.labels import label_probabilities
from selfkd.losses.precision import full_precision
from selfkd.supervision.base import Supervision

__all__ = ["Historical"]


class Historical(Supervision):
    """`beta * label + (1 - beta) * previous prediction`, for every head.

    What is remembered is the softmax (temperature 1) of the logits of the training pass itself, so before the weight
    update that follows it. In the first epoch every row reads as the label, whatever beta is.

    Args:
        data: size of the training set and number of classes.
        heads: names of the heads.
        label_share: beta as a function of progress, in [0, 1].
    Source: Kim et al. 2021 (PS-KD), equation 3; Li et al. (DTSKD), historical teacher.
    """

    def __init__(self, data: DatasetInfo, heads: Sequence[str], label_share: Callable[[Progress], float]) -> None:
        self.history = History(data.num_samples, data.num_classes, heads)
        self.label_share = label_share

    def targets(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        assert batch.indices is not None  # held by needs
        beta = self.label_share(progress)
        label_BK = label_probabilities(batch.labels, self.history.num_classes)
        past = self.history.read(batch.indices, batch.labels)
        return {head: beta * label_BK + (1 - beta) * past_BK for head, past_BK in past.items()}

    def after_step(self, batch: Batch, output: StepOutput) -> None:
        assert batch.indices is not None
        heads = self.history.heads
        predicted = {head: full_precision(output.logits[head].detach()).softmax(dim=1) for head in heads}
        self.history.write(batch.indices, predicted)

    def end_epoch(self, progress: Progress) -> None:
        self.history.advance()
