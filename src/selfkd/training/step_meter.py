"""Sums over the steps of an epoch, kept on the device; looking at them is the only synchronisation."""

from __future__ import annotations

import math

import torch
from torch import Tensor, distributed

from selfkd.contract import StepOutput
from selfkd.errors import NonFiniteLossError
from selfkd.process_group import is_distributed

__all__ = ["StepMeter"]


class StepMeter:
    """Mean loss terms and training accuracy of an epoch, and the guard against NaN and infinity.

    A NaN stays in a sum, so one look every few steps finds it, and tells between which steps it came.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start an epoch."""
        self._names: tuple[str, ...] = ()
        self._sums: Tensor | None = None
        self._correct: Tensor | None = None
        self._steps = self._guarded_steps = self._samples = 0
        self._summed_steps = 0  # also other processes'

    @torch.no_grad()
    def update(self, output: StepOutput, labels: Tensor) -> None:
        """Count one step, without waiting for the device.

        Args:
            output: of the step; of the rows of its logits, those that have a label count: the first views of all
                samples, or of the anchors.
            labels: `[B]` int64, or soft `[B, K]`, of which the largest share is the class that counts as correct.
        """
        values = torch.stack([output.loss, *output.terms.values()]).detach().float()
        logits_BK = output.logits["main"][: len(labels)]
        hard_B = (labels if labels.ndim == 1 else labels.argmax(dim=1))[: len(logits_BK)]
        correct = (logits_BK.argmax(dim=1) == hard_B).sum()
        self._names = ("loss", *output.terms)
        self._sums = values if self._sums is None else self._sums + values
        self._correct = correct if self._correct is None else self._correct + correct
        self._steps += 1
        self._summed_steps += 1
        self._samples += len(hard_B)

    def guard(self, epoch: int) -> None:
        """Raise if a term is NaN or infinite. Waits for the device.

        Args:
            epoch: counted from 0, for the message.
        Raises: NonFiniteLossError: naming terms, epoch and steps.
        """
        if self._sums is None:
            return
        sums = dict(zip(self._names, self._sums.tolist(), strict=True))
        wrong = [name for name, value in sums.items() if not math.isfinite(value)]
        if wrong:
            raise NonFiniteLossError(
                f"{', '.join(wrong)} became NaN or infinite in epoch {epoch + 1}, "
                f"steps {self._guarded_steps + 1} to {self._steps}; try a lower optimizer.lr or trainer.precision=32"
            )
        self._guarded_steps = self._steps

    def gather(self) -> None:
        """Let the epoch's counts be those of all processes that train together, once at its end."""
        if not is_distributed() or self._sums is None or self._correct is None:
            return
        counts = torch.tensor([self._summed_steps, self._samples], device=self._sums.device)
        for tensor in (self._sums, self._correct, counts):
            distributed.all_reduce(tensor)
        self._summed_steps, self._samples = counts.tolist()

    def compute(self) -> dict[str, float]:
        """Means over the epoch so far, and the running training accuracy in percent. Waits for the device."""
        if self._sums is None or self._correct is None:
            return {}
        means = (self._sums / self._summed_steps).tolist()
        result = {f"train/{name}": value for name, value in zip(self._names, means, strict=True)}
        result["train/accuracy"] = 100 * int(self._correct) / self._samples
        return result
