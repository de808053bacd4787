"""The training loop of README, for tests of methods without a run around them."""

from collections.abc import Callable, Iterable

import torch

from selfkd.contract import Batch, Progress
from selfkd.methods.base import Method


def train(
    method: Method,
    optimizer: torch.optim.Optimizer,
    batches: Callable[[int], Iterable[Batch]],
    total_epochs: int,
    until: int | None = None,
) -> list[float]:
    """Train from wherever the method stands.

    Args:
        method: trained in place.
        optimizer: of its parameters.
        batches: from the number of an epoch to its batches.
        total_epochs: length of the whole training.
        until: stop before this epoch; None for all.
    Returns: the losses of all steps.
    """
    losses = []
    for epoch in range(method.epochs_done, total_epochs if until is None else until):
        progress = Progress(epoch, total_epochs)
        method.begin_epoch(progress)
        for batch in batches(epoch):
            output = method(batch, progress)
            optimizer.zero_grad()
            output.loss.backward()
            optimizer.step()
            method.after_step(batch, output)
            losses.append(output.loss.item())
        method.end_epoch(progress)
    return losses
