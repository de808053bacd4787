"""The target of a head that learns from labels, and the loss for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor

from selfkd.contract import Batch, DatasetInfo, Needs, Progress, StepOutput
from selfkd.errors import UserError
from selfkd.losses import soft_cross_entropy
from selfkd.memories import Memory

__all__ = ["Supervision"]


class Supervision(ABC):
    """The targets of all heads of one method that learn from labels.

    Its keyword arguments are the options of a recipe's section `supervision`. The base class of the method calls `bind`
    once, `prepare` before each step and `after_step` after it.

    Attributes:
        needs: what the supervision needs from the loader, in addition to the needs of the method.
        heads: names of the heads, set by `bind`.
        num_classes: K, set by `bind`.
    """

    needs: ClassVar[Needs] = Needs()

    heads: tuple[str, ...] = ()
    num_classes: int = 0

    def bind(self, data: DatasetInfo, heads: Sequence[str]) -> None:
        """Bind the supervision to one method.

        Args:
            data: facts about the training set.
            heads: names of the heads that learn from labels.
        Raises: UserError: if it is bound already.
        """
        if self.heads:
            raise UserError(f"this {type(self).__name__} belongs to a method already; create one for each method")
        self.heads, self.num_classes = tuple(heads), data.num_classes

    @property
    def memories(self) -> Mapping[str, Memory]:
        """Its memories, by name; none by default."""
        return {}

    def prepare(self, batch: Batch, progress: Progress) -> None:
        """Prepare the targets of a checked batch. Never a part of a compiled graph. Does nothing by default."""

    @abstractmethod
    def target(self, head: str, batch: Batch) -> Tensor:
        """The target: `[B, K]` float32 probabilities without gradient, one row for each sample of the batch."""

    def loss(self, head: str, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of a head with its target, mean over the rows.

        Args:
            head: name of the head.
            logits: `[R, K]` of the batch's first R images: all images, those of the first view, or its anchors.
            batch: the batch of the last `prepare`.
        Returns: 0-d tensor in nat, float32 or wider.
        """
        return soft_cross_entropy(logits, batch.for_images(self.target(head, batch), len(logits)))

    def after_step(self, batch: Batch, output: StepOutput) -> None:
        """Store in its memories what the step predicted. Does nothing by default."""
