"""Sums over the steps of an epoch. They stay on the device; only reading them waits for it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, distributed

from selfkd.contract import StepOutput
from selfkd.errors import NonFiniteLossError
from selfkd.process_group import is_distributed

__all__ = ["StepMeter"]


class StepMeter:
    """The mean loss terms, the training accuracy and the number of images of an epoch; checks for NaN and infinity.

    A NaN stays in a sum. So a check every few steps finds it, and tells between which steps it appeared.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start an epoch."""
        self._names: tuple[str, ...] = ()
        self._sums: Tensor | None = None
        self._correct: Tensor | None = None
        self._steps = self._guarded_steps = self._samples = self._images = 0
        self._summed_steps = 0  # `gather` adds those of the other processes

    @torch.no_grad()
    def update(self, output: StepOutput, labels: Tensor, images: int) -> None:
        """Count one step, without waiting for the device.

        Args:
            output: the method's output. Only the rows of its logits that have a label count for the accuracy: the
                first views of all samples, or of the anchors.
            labels: `[B]` int64, or soft `[B, K]`. The class with the largest share in a soft label is the correct one.
            images: number of images in the step's batch, V*B: every view and every follower counts.
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
        self._images += images

    def guard(self, epoch: int) -> None:
        """Raise if a term is NaN or infinite. Waits for the device.

        Args:
            epoch: number of the epoch, counted from 0, for the message.
        Raises: NonFiniteLossError: names the terms, the epoch and the steps.
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
        """Add the sums of all processes that train together. Call it once, at the epoch's end."""
        if not is_distributed() or self._sums is None or self._correct is None:
            return
        counts = torch.tensor([self._summed_steps, self._samples, self._images], device=self._sums.device)
        for tensor in (self._sums, self._correct, counts):
            distributed.all_reduce(tensor)
        self._summed_steps, self._samples, self._images = counts.tolist()

    def compute(self) -> dict[str, float]:
        """The mean loss terms so far, the accuracy in percent and the number of images. Waits for the device."""
        if self._sums is None or self._correct is None:
            return {}
        means = (self._sums / self._summed_steps).tolist()
        result = {f"train/{name}": value for name, value in zip(self._names, means, strict=True)}
        result["train/accuracy"] = 100 * int(self._correct) / self._samples
        result["images/train"] = self._images
        return result
