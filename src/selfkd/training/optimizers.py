"""Optimisers by name; their keyword arguments are the recipe's `optimizer.*`."""

from __future__ import annotations

from typing import Any

from torch.optim import SGD, AdamW, Optimizer

from selfkd.errors import OptionError
from selfkd.option_checks import non_negative, positive, unit_interval

__all__ = ["adamw", "sgd"]


def sgd(
    groups: list[dict[str, Any]],
    *,
    lr: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    nesterov: bool = True,
) -> Optimizer:
    """Stochastic gradient descent with momentum.

    Args:
        groups: the parameter groups; a setting in a group replaces the one below.
        lr: the highest learning rate.
        momentum: the part of the last step that is added to the next, in [0, 1].
        weight_decay: L2 penalty on all parameters.
        nesterov: use Nesterov's momentum, which needs a momentum above 0.
    Raises: OptionError: if a value is out of range.
    """
    positive("optimizer.lr", lr)
    unit_interval("optimizer.momentum", momentum)
    non_negative("optimizer.weight_decay", weight_decay)
    if nesterov:
        positive("optimizer.momentum", momentum)  # torch's nesterov needs some
    return SGD(groups, lr, momentum, weight_decay=weight_decay, nesterov=nesterov, fused=True)


def adamw(
    groups: list[dict[str, Any]],
    *,
    lr: float = 1e-3,
    weight_decay: float = 0.05,
    beta1: float = 0.9,
    beta2: float = 0.999,
) -> Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019).

    Args:
        groups: the parameter groups; a setting in a group replaces the one below.
        lr: the highest learning rate.
        weight_decay: decay of all parameters; it is multiplied by the learning rate.
        beta1: decay rate of the running mean of the gradients, in [0, 1).
        beta2: decay rate of the running mean of the squared gradients, in [0, 1).
    Raises: OptionError: if a value is out of range.
    """
    positive("optimizer.lr", lr)
    non_negative("optimizer.weight_decay", weight_decay)
    betas = (unit_interval("optimizer.beta1", beta1), unit_interval("optimizer.beta2", beta2))
    if max(betas) == 1:
        raise OptionError("optimizer.beta1, optimizer.beta2", betas, "below 1")
    return AdamW(groups, lr, betas, weight_decay=weight_decay, fused=True)
