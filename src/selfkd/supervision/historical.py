"""Targets that mix the label with the head's own prediction for the same sample in the previous epoch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from torch import Tensor

from selfkd.contract import Batch, DatasetInfo, Needs, Progress, StepOutput
from selfkd.losses import full_precision, label_probabilities
from selfkd.memories import History, Memory
from selfkd.option_checks import one_of, unit_interval
from selfkd.supervision.base import Supervision
from selfkd.supervision.decay import DECAYS, fixed
from selfkd.supervision.epoch_number import EpochNumber

__all__ = ["Historical", "PreviousPrediction"]


class PreviousPrediction(Supervision):
    """`beta * label + (1 - beta) * previous prediction`, for every head. A subclass defines beta.

    The history stores the softmax (temperature 1) of the logits of the training pass, before the weight update of that
    step. In the first epoch the label stands for the previous prediction, so the target is the label for every beta.

    Only the first view of an anchor is written. All views of a sample read it. A follower reads its own sample's row,
    which is written when the sample is an anchor.

    Source: Kim et al. 2021 (PS-KD), equation 3; Li et al. (DTSKD), historical teacher.
    """

    needs: ClassVar[Needs] = Needs(sample_index=True)

    _history: History
    _targets: Mapping[str, Tensor]
    _label_share: EpochNumber
    _past_share: EpochNumber

    @abstractmethod
    def label_share(self, progress: Progress) -> float:
        """Beta, in [0, 1]; constant within an epoch."""

    def bind(self, data: DatasetInfo, heads: Sequence[str]) -> None:
        super().bind(data, heads)
        self._history = History(data.num_samples, data.num_classes, self.heads)
        self._label_share, self._past_share = EpochNumber(self.label_share), EpochNumber(self._rest)

    @property
    def memories(self) -> Mapping[str, Memory]:
        return {"history": self._history}

    def prepare(self, batch: Batch, progress: Progress) -> None:
        assert batch.indices is not None  # the method has checked this
        for share in (self._label_share, self._past_share):
            share.update(progress, batch.labels.device)
        label_BK = label_probabilities(batch.labels, self.num_classes)
        past = self._history.read(batch.indices, batch.labels)
        self._targets = {
            head: self._label_share.value * label_BK + self._past_share.value * past_BK
            for head, past_BK in past.items()
        }

    def target(self, head: str, batch: Batch) -> Tensor:
        return self._targets[head]

    def after_step(self, batch: Batch, output: StepOutput) -> None:
        assert batch.indices is not None
        first = batch.anchors  # the rows of their first view
        predicted = {head: full_precision(output.logits[head][:first].detach()).softmax(dim=1) for head in self.heads}
        on_host = None if batch.host_indices is None else batch.for_images(batch.host_indices, first)
        self._history.write(batch.for_images(batch.indices, first), predicted, on_host)

    def _rest(self, progress: Progress) -> float:
        """The share of the previous prediction, 1 - beta."""
        return 1 - self.label_share(progress)


class Historical(PreviousPrediction):
    """`(1 - alpha_e) * label + alpha_e * own prediction of epoch e - 1`, for every head.

    Args:
        alpha: weight of the past prediction in the last epoch, in [0, 1].
        decay: how the weight of the label falls from 1 to `1 - alpha`: "linear" as in PS-KD (equation 4), or "cosine";
            "fixed" is `1 - alpha` in all epochs.
    Raises: OptionError: if an option is out of range.
    Source: Kim et al. 2021 (PS-KD), arXiv:2006.12000, equations 3 and 4.
    """

    def __init__(self, *, alpha: float = 0.8, decay: Literal["linear", "cosine", "fixed"] = "linear") -> None:
        self.alpha = unit_interval("supervision.alpha", alpha)
        self._decay = DECAYS[one_of("supervision.decay", decay, DECAYS)]

    def label_share(self, progress: Progress) -> float:
        last = 1.0 - self.alpha
        return self._decay(progress, last if self._decay is fixed else 1.0, last, 1)
