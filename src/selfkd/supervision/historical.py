"""The label mixed with the head's own prediction for the same sample in the previous epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from selfkd.contract import Batch, DatasetInfo, Progress, StepOutput
from selfkd.losses.labels import label_probabilities
from selfkd.losses.precision import full_precision
from selfkd.memories import History
from selfkd.supervision.base import Supervision

__all__ = ["Historical"]


class Historical(Supervision):
    """`beta * label + (1 - beta) * previous prediction`, for every head.

    What is remembered is the softmax (temperature 1) of the logits of the training pass itself, so before the weight
    update that follows it. In the first epoch every row reads as the label, whatever beta is. The method whose history
    it is ends the epoch.

    Args:
        data: size of the training set and number of classes.
        heads: names of the heads.
        label_share: beta as a function of progress, in [0, 1].
    Source: Kim et al. 2021 (PS-KD), equation 3; Li et al. (DTSKD), historical teacher.
    """

    def __init__(self, data: DatasetInfo, heads: Sequence[str], label_share: Callable[[Progress], float]) -> None:
        self.history = History(data.num_samples, data.num_classes, heads)
        self.label_share = label_share
        self._epoch: int | None = None
        self._shares: tuple[Tensor, Tensor] | None = None

    def begin_epoch(self, progress: Progress, device: torch.device) -> None:
        # Tensors, because every number that a compiled step meets makes a graph of its own.
        self._epoch, self._shares = progress.epoch, self._shares_in(progress, device)

    def targets(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        assert batch.indices is not None  # held by needs
        shares = self._shares
        # A compiled step does not look at the epoch, which would become a part of its graph.
        if shares is None or (not torch.compiler.is_compiling() and progress.epoch != self._epoch):
            shares = self._shares_in(progress, batch.labels.device)
        label_share, past_share = (share.to(batch.labels.device) for share in shares)
        label_BK = label_probabilities(batch.labels, self.history.num_classes)
        past = self.history.read(batch.indices, batch.labels)
        return {head: label_share * label_BK + past_share * past_BK for head, past_BK in past.items()}

    def after_step(self, batch: Batch, output: StepOutput) -> None:
        assert batch.indices is not None
        heads = self.history.heads
        predicted = {head: full_precision(output.logits[head].detach()).softmax(dim=1) for head in heads}
        self.history.write(batch.indices, predicted)

    def _shares_in(self, progress: Progress, device: torch.device) -> tuple[Tensor, Tensor]:
        """Beta and 1 - beta; filled in on the device, which so is not waited for."""
        beta = self.label_share(progress)
        label_share, past_share = (
            torch.full((), share, dtype=torch.float32, device=device) for share in (beta, 1 - beta)
        )
        return label_share, past_share
