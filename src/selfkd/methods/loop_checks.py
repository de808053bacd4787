"""The checks of a training loop: does it call a method's hooks in the right order, and for every batch?"""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor

from selfkd.contract import Batch, DatasetInfo
from selfkd.errors import UserError
from selfkd.memories import Memory

__all__ = ["LoopChecks"]

_MOST_SKIPPED = 0.25
"""Of an epoch's samples: a loop may leave out a step whose loss is not finite, but not often."""
_MOST_PASSES = 2
"""Passes over the training set in an epoch that is not ended: it may be broken off once and begin again."""


class LoopChecks:
    """Counts the epochs of one method, and the samples of the current epoch.

    A method without a memory can be trained without its hooks. The memories that every step must write are checked one
    by one, so that none hides that another was left out.

    Args:
        name: name of the method, for messages.
        data: facts about the training set.
    Attributes:
        epochs_done: epochs that were ended, with those before a loaded state.
        samples: anchors seen by training steps since the current epoch began; a batch that is seen twice in a row
            counts once.
    """

    def __init__(self, name: str, data: DatasetInfo) -> None:
        self.name = name
        self.num_samples = data.num_samples
        self.epochs_done = 0
        self._most_samples = _MOST_PASSES * data.num_samples
        self._current: int | None = None  # the epoch that was begun and not ended
        self._samples_before = 0  # samples of the current epoch before it began again
        self._just_loaded = False  # a state was loaded, and no epoch has begun since
        self._last_indices: Tensor | None = None  # of the last batch
        self._reset_counts()

    def begin_epoch(self, epoch: int, memories: Collection[Memory], written_each_step: Collection[Memory]) -> None:
        """Begin an epoch, or begin it again.

        Args:
            epoch: its number, counted from 0.
            memories: all memories of the method.
            written_each_step: those of them that every step must write.
        Raises: UserError: if another epoch was not ended; if the memories are empty after earlier epochs; if the epoch
            was ended already and the memories hold it; or if a state was loaded that continues with another epoch.
        """
        if self._just_loaded and epoch != self.epochs_done:
            raise UserError(
                f"epoch {epoch} begins, but the training state that was loaded continues with epoch "
                f"{self.epochs_done}; write: for epoch in range(method.epochs_done, epochs)"
            )
        if memories and self._current not in (None, epoch) and self.samples:
            raise UserError(
                f"epoch {self._current} was not ended; call end_epoch(progress) after its last batch "
                "(a subclass that overrides it calls super().end_epoch(progress))"
            )
        all_empty = memories and all(memory.is_empty for memory in memories)
        if epoch > self.epochs_done and (all_empty or any(memory.is_empty for memory in written_each_step)):
            raise UserError(
                f"epoch {epoch} begins, but the memory of {self.name} is empty: a state_dict() holds the weights "
                "alone. Continue from training_state() with load_training_state(state), or begin with epoch 0"
            )
        if epoch < self.epochs_done and not all(memory.is_empty for memory in memories):
            raise UserError(
                f"epoch {epoch} begins, but {self.epochs_done} epochs were ended and {self.name} remembers them: the "
                "next epoch is method.epochs_done. To train anew, create a new method; to go back, call "
                "load_training_state(state)"
            )
        self._samples_before = self._samples_before + self.samples if epoch == self._current else 0
        self._current, self._just_loaded = epoch, False
        self._reset_counts()

    def begin_unannounced(self, epoch: int, memories: Collection[Memory]) -> bool:
        """Begin the epoch of a training step if the loop has not done so. Returns whether it began now.

        Raises: UserError: if there are memories, because they need `begin_epoch`.
        """
        if epoch == self._current:
            return False
        if memories:
            raise UserError(
                f"a batch of epoch {epoch} came, but begin_epoch(progress) was not called for this epoch; call it "
                f"before the first batch and end_epoch(progress) after the last, or {self.name} remembers nothing "
                "(a subclass that overrides it calls super().begin_epoch(progress))"
            )
        self._current = epoch
        self._reset_counts()
        return True

    def count_batch(self, batch: Batch, memories: Collection[Memory]) -> None:
        """Count the batch of a training step.

        Raises: UserError: if there are memories, and the epoch has more samples than an epoch can have.
        """
        # An optimiser may compute the loss of one batch several times and take one step.
        if batch.indices is None or batch.indices is not self._last_indices:
            self.samples += batch.anchors
        self._last_indices = batch.indices
        seen = self._samples_before + self.samples
        if memories and seen > self._most_samples:
            raise UserError(
                f"epoch {self._current} saw {seen} samples, more than twice a training set of {self.num_samples}, and "
                f"was not ended, so {self.name} remembers nothing; for each pass make a new selfkd.Progress(epoch, "
                "epochs), call begin_epoch(progress) before its first batch and end_epoch(progress) after its last"
            )

    def count_step(self, batch: Batch) -> None:
        """Count the batch of an optimiser's step."""
        self._samples_stepped += batch.anchors

    def check_end(self, epoch: int, memories: Collection[Memory], written_each_step: Collection[Memory]) -> None:
        """Check that an epoch can be ended.

        Args:
            epoch: its number, counted from 0.
            memories: all memories of the method.
            written_each_step: those of them that every step must write.
        Raises: UserError: if another epoch was begun, or if too few of the samples were written.
        """
        if epoch != self._current:
            begun = "no epoch" if self._current is None else f"epoch {self._current}"
            raise UserError(
                f"end_epoch was called for epoch {epoch}, but {begun} was begun; call begin_epoch(progress) first"
            )
        # A method decides itself which samples its other memories keep; the largest count speaks for the loop.
        most = max(self._samples_stepped, *(memory.samples_written for memory in memories))
        written = min((memory.samples_written for memory in written_each_step), default=most)
        if written < (1 - _MOST_SKIPPED) * self.samples:
            raise UserError(
                f"epoch {epoch} saw {self.samples} samples, but after_step was called for {written} of them; call "
                f"after_step(batch, output) after each step of the optimiser, or {self.name} does not remember them (a "
                "subclass that overrides it calls super().after_step(batch, output))"
            )

    def end_epoch(self, epoch: int) -> None:
        """End an epoch."""
        self._current, self.epochs_done = None, epoch + 1
        self._reset_counts()

    def check_between_epochs(self) -> None:
        """Check that no epoch has begun and not ended.

        Raises: UserError: if one has.
        """
        if self._current is not None:
            raise UserError(f"epoch {self._current} was not ended; save training_state() after end_epoch(progress)")

    def continue_after(self, epochs_done: int) -> None:
        """Continue a loaded state; the next epoch must be number `epochs_done`."""
        self._current, self._just_loaded, self.epochs_done = None, True, epochs_done
        self._reset_counts()

    def _reset_counts(self) -> None:
        self.samples = self._samples_stepped = 0
        self._last_indices = None
