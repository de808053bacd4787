"""Where a training loop stands, and whether it calls a method's hooks as it must."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor

from selfkd.contract import Batch, DatasetInfo
from selfkd.errors import UserError
from selfkd.memories import Memory

__all__ = ["EpochBook"]

_MOST_SKIPPED = 0.25
"""Of an epoch's samples; a loop may leave out a step whose loss is not finite, but not make it a habit."""
_MOST_PASSES = 2
"""Over the training set, in one epoch that is not ended; one may be broken off and begin again."""


class EpochBook:
    """Counts epochs and the samples of the current one, for one method.

    A method that remembers nothing can be trained without its hooks; it has no memories here. Those that every step
    must write are asked each for itself, so that none hides that another was left out.

    Args:
        name: of the method, for messages.
        data: what is known of the training set.
    Attributes:
        done: epochs that were ended, those before a loaded state included.
        samples: anchors seen by training steps since the current epoch began; a batch that is seen again at once counts
            once.
    """

    def __init__(self, name: str, data: DatasetInfo) -> None:
        self.name = name
        self.num_samples = data.num_samples
        self.done = 0
        self._most_samples = _MOST_PASSES * data.num_samples
        self._current: int | None = None  # begun and not ended
        self._broken_off = 0  # samples that the current epoch had seen whenever it began again
        self._continues = False  # something was loaded, and no epoch begun since
        self._indices: Tensor | None = None  # of the last batch
        self._start_counting()

    def begin(self, epoch: int, memories: Collection[Memory], each_step: Collection[Memory]) -> None:
        """Begin an epoch, or begin it again.

        Args:
            epoch: its number.
            memories: all of the method's.
            each_step: those of them that every step must write.
        Raises: UserError: if another was not ended, if nothing is remembered of those before, if it was ended and is
            remembered, or if it is not the epoch at which a loaded state stands.
        """
        if self._continues and epoch != self.done:
            raise UserError(
                f"epoch {epoch} begins, but the training state that was loaded continues with epoch {self.done}: "
                "for epoch in range(method.epochs_done, epochs)"
            )
        if memories and self._current not in (None, epoch) and self.samples:
            raise UserError(
                f"epoch {self._current} was not ended; call end_epoch(progress) after its last batch "
                "(a subclass that overrides it calls super().end_epoch(progress))"
            )
        nothing_left = memories and all(memory.is_empty for memory in memories)
        if epoch > self.done and (nothing_left or any(memory.is_empty for memory in each_step)):
            raise UserError(
                f"epoch {epoch} begins, but nothing is remembered of the epochs before: a state_dict() holds the "
                "weights alone. Continue from training_state() with load_training_state(state), or begin with epoch 0"
            )
        if epoch < self.done and not all(memory.is_empty for memory in memories):
            raise UserError(
                f"epoch {epoch} begins, but {self.done} epochs were ended, of which {self.name} remembers "
                "something: the next is number method.epochs_done. To train anew, create a new method; to go back, "
                "load_training_state(state)"
            )
        self._broken_off = self._broken_off + self.samples if epoch == self._current else 0
        self._current, self._continues = epoch, False
        self._start_counting()

    def turns_to(self, epoch: int, memories: Collection[Memory]) -> bool:
        """Whether a training step is the first of an epoch that no `begin` announced; it begins with that.

        Raises: UserError: if there are memories, for which an epoch must have been begun.
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
        self._start_counting()
        return True

    def saw(self, batch: Batch, memories: Collection[Memory]) -> None:
        """Count the batch of a training step.

        Raises: UserError: if the epoch does not end, although there are memories.
        """
        # An optimiser may ask for the loss of one batch several times and take one step.
        if batch.indices is None or batch.indices is not self._indices:
            self.samples += batch.anchors
        self._indices = batch.indices
        seen = self._broken_off + self.samples
        if memories and seen > self._most_samples:
            raise UserError(
                f"epoch {self._current} saw {seen} samples, more than twice a training set of {self.num_samples}, and "
                f"was not ended, so {self.name} remembers nothing; make selfkd.Progress(epoch, epochs) anew for each "
                "pass, call begin_epoch(progress) before its first batch and end_epoch(progress) after its last"
            )

    def stepped(self, batch: Batch) -> None:
        """Count the batch of an optimiser's step."""
        self._stepped += batch.anchors

    def check_end(self, epoch: int, memories: Collection[Memory], each_step: Collection[Memory]) -> None:
        """Whether an epoch can be ended.

        Args:
            epoch: its number.
            memories: all of the method's.
            each_step: those of them that every step must write.
        Raises: UserError: if another one was begun, or what was seen is not remembered.
        """
        if epoch != self._current:
            begun = "none" if self._current is None else f"epoch {self._current}"
            raise UserError(f"epoch {epoch} is to be ended, but {begun} was begun; call begin_epoch(progress) first")
        # Which samples other memories keep is the method's affair: of those, whichever a subclass tells.
        told = max(self._stepped, *(memory.samples_written for memory in memories))
        remembered = min((memory.samples_written for memory in each_step), default=told)
        if remembered < (1 - _MOST_SKIPPED) * self.samples:
            raise UserError(
                f"epoch {epoch} saw {self.samples} samples, but after_step was called for {remembered} of them; call "
                f"after_step(batch, output) after each step of the optimiser, or {self.name} does not remember them (a "
                "subclass that overrides it calls super().after_step(batch, output))"
            )

    def end(self, epoch: int) -> None:
        """End an epoch."""
        self._current, self.done = None, epoch + 1
        self._start_counting()

    def check_between(self) -> None:
        """Whether the loop stands between two epochs.

        Raises: UserError: if it does not.
        """
        if self._current is not None:
            raise UserError(f"epoch {self._current} was not ended; save training_state() after end_epoch(progress)")

    def continue_after(self, done: int) -> None:
        """Stand where so many epochs are done; the next to begin is epoch number `done`."""
        self._current, self._continues, self.done = None, True, done
        self._start_counting()

    def _start_counting(self) -> None:
        self.samples = self._stepped = 0
        self._indices = None
