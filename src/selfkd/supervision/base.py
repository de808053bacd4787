"""What a head is asked to predict, and the loss of being asked."""

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
    """The target of every head of a method that learns from labels.

    Its keyword arguments are the options of a recipe's section `supervision`. It belongs to one method, whose base
    class binds it to data and heads, and calls `admit` before each step and `after_step` after it.

    Attributes:
        needs: what it needs of a batch, beside what the method needs; nothing else of `Needs`.
        heads: names of the heads, once it is bound.
        num_classes: K, once it is bound.
    """

    needs: ClassVar[Needs] = Needs()

    heads: tuple[str, ...] = ()
    num_classes: int = 0

    def bind(self, data: DatasetInfo, heads: Sequence[str]) -> None:
        """Belong to a method from now on.

        Args:
            data: what is known of the training set.
            heads: names of the heads that learn from labels.
        Raises: UserError: if it belongs to one already.
        """
        if self.heads:
            raise UserError(f"this {type(self).__name__} supervises a method already; create one for each method")
        self.heads, self.num_classes = tuple(heads), data.num_classes

    @property
    def memories(self) -> Mapping[str, Memory]:
        """What it remembers across epochs, by name; nothing by default."""
        return {}

    def admit(self, batch: Batch, progress: Progress) -> None:
        """Prepare the targets of a batch, which was checked, outside of any compiled graph; nothing by default."""

    @abstractmethod
    def target(self, head: str, batch: Batch) -> Tensor:
        """`[B, K]` float32 probabilities without gradient, one row for each sample of the batch."""

    def loss(self, head: str, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of a head with its target, mean over the rows.

        Args:
            head: its name.
            logits: `[R, K]` of the batch's first R images: all of them, those of the first view, or of its anchors.
            batch: that was admitted last.
        Returns: 0-d tensor in nat, float32 or wider.
        """
        return soft_cross_entropy(logits, batch.for_images(self.target(head, batch), len(logits)))

    def after_step(self, batch: Batch, output: StepOutput) -> None:
        """Remember what the step predicted; nothing by default."""
