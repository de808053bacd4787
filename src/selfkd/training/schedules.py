"""Learning-rate schedules by name. They step after every batch; their arguments are the recipe's `schedule.*`."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR, LRScheduler, MultiStepLR, SequentialLR

from selfkd.errors import OptionError
from selfkd.option_checks import non_negative, positive

__all__ = ["constant", "cosine", "multistep"]


def multistep(
    optimizer: Optimizer,
    epochs: int,
    steps_per_epoch: int,
    *,
    milestones: tuple[float, ...] = (0.5, 0.75),
    gamma: float = 0.1,
    warmup_epochs: float = 0.0,
) -> LRScheduler:
    """Multiply the learning rate by `gamma` at every milestone.

    Args:
        optimizer: the optimiser with the learning rate.
        epochs: number of epochs in the whole run.
        steps_per_epoch: number of batches in an epoch.
        milestones: when the learning rate falls, in increasing order. A number up to 1 is a share of all epochs, so it
            fits a run of any length; a number above 1 is an epoch. Both count from the end of the warm-up.
        gamma: the factor at each milestone, > 0.
        warmup_epochs: epochs in which the learning rate rises linearly, step by step, to its full value.
    Raises: OptionError: if a value is out of range.
    """
    positive("schedule.gamma", gamma)
    for milestone in milestones:
        positive("schedule.milestones", milestone)
    if any(later <= earlier for earlier, later in pairwise(milestones)):
        raise OptionError("schedule.milestones", milestones, "increasing numbers, none twice")
    warmup_steps = _warmup_steps(warmup_epochs, epochs, steps_per_epoch)
    after = epochs * steps_per_epoch - warmup_steps
    steps = [round(after * m if m <= 1 else steps_per_epoch * m) for m in milestones]
    # A share below 1 must lie within the run, even in a run of few steps.
    steps = [min(step, after - 1) if m < 1 else step for step, m in zip(steps, milestones, strict=True)]
    if steps != sorted(steps):
        reason = f"numbers up to 1 are shares of the {epochs} epochs, so these milestones do not increase"
        raise OptionError("schedule.milestones", milestones, reason=reason)
    if steps and steps[-1] >= after:
        reason = f"the last milestone lies beyond trainer.epochs={epochs}; shares below 1 fit a run of any length"
        raise OptionError("schedule.milestones", milestones, reason=reason)
    return _with_warmup(MultiStepLR(optimizer, steps, gamma), optimizer, warmup_steps)


def cosine(
    optimizer: Optimizer,
    epochs: int,
    steps_per_epoch: int,
    *,
    final_fraction: float = 0.0,
    warmup_epochs: float = 0.0,
) -> LRScheduler:
    """Let the learning rate fall along half a cosine.

    Args:
        optimizer: the optimiser with the learning rate.
        epochs: number of epochs in the whole run.
        steps_per_epoch: number of batches in an epoch.
        final_fraction: the last learning rate as a share of the highest, in [0, 1).
        warmup_epochs: epochs in which the learning rate rises linearly, step by step, to its full value.
    Raises: OptionError: if a value is out of range.
    """
    if not 0 <= final_fraction < 1:
        raise OptionError("schedule.final_fraction", final_fraction, "in [0, 1)")
    warmup_steps = _warmup_steps(warmup_epochs, epochs, steps_per_epoch)
    falling = _CosineAnnealing(optimizer, max(1, epochs * steps_per_epoch - warmup_steps), final_fraction)
    return _with_warmup(falling, optimizer, warmup_steps)


def constant(optimizer: Optimizer, epochs: int, steps_per_epoch: int, *, warmup_epochs: float = 0.0) -> LRScheduler:
    """Keep the learning rate constant.

    Args:
        optimizer: the optimiser with the learning rate.
        epochs: number of epochs in the whole run.
        steps_per_epoch: number of batches in an epoch.
        warmup_epochs: epochs in which the learning rate rises linearly, step by step, to its full value.
    Raises: OptionError: if a value is out of range.
    """
    warmup_steps = _warmup_steps(warmup_epochs, epochs, steps_per_epoch)
    return _with_warmup(ConstantLR(optimizer, factor=1.0, total_iters=0), optimizer, warmup_steps)


class _CosineAnnealing(CosineAnnealingLR):
    """Every parameter group falls to the same share of its own learning rate; torch's all fall to one number."""

    def __init__(self, optimizer: Optimizer, steps: int, final_fraction: float) -> None:
        super().__init__(optimizer, steps, final_fraction * max(group["lr"] for group in optimizer.param_groups))

    def get_lr(self) -> list[float | Tensor]:
        highest = max(self.base_lrs)
        rate = super().get_lr()[self.base_lrs.index(highest)]
        return [rate * (base / highest) for base in self.base_lrs]


def _warmup_steps(warmup_epochs: float, epochs: int, steps_per_epoch: int) -> int:
    non_negative("schedule.warmup_epochs", warmup_epochs)
    if warmup_epochs > epochs:
        reason = f"the warm-up is longer than trainer.epochs={epochs}; set schedule.warmup_epochs to fewer epochs, too"
        raise OptionError("schedule.warmup_epochs", warmup_epochs, reason=reason)
    return round(warmup_epochs * steps_per_epoch)


def _with_warmup(main: LRScheduler, optimizer: Optimizer, warmup_steps: int) -> LRScheduler:
    if warmup_steps == 0:
        return main
    rising = LinearLR(optimizer, start_factor=1 / warmup_steps, total_iters=warmup_steps - 1)
    return SequentialLR(optimizer, [rising, main], milestones=[warmup_steps])
