"""Losses as sums over samples and classes, for tests of methods, and the check of a method's loss against them.

Gradient flows through both arguments of a loss.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["assert_same_loss", "cross_entropy", "divergence", "gradients"]


def _probabilities(logits_K: Tensor, temperature: float) -> list[Tensor]:
    exponentials = [(each / temperature).exp() for each in logits_K]
    return [each / sum(exponentials) for each in exponentials]


def cross_entropy(logits_BK: Tensor, labels_B: Tensor) -> Tensor:
    """`-(1/B) sum_n log p_n(y_n)`."""
    terms = [-_probabilities(row, 1)[label].log() for row, label in zip(logits_BK, labels_B.tolist(), strict=True)]
    return torch.stack(terms).mean()


def divergence(student_BK: Tensor, teacher_BK: Tensor, temperature: float = 1) -> Tensor:
    """`T^2 (1/B) sum_nk p_t log(p_t / p_s)` of predictions softened by the temperature T."""
    samples = []
    for student_K, teacher_K in zip(student_BK, teacher_BK, strict=True):
        student, teacher = (_probabilities(each, temperature) for each in (student_K, teacher_K))
        samples.append(sum(t * (t / s).log() for s, t in zip(student, teacher, strict=True)))
    return temperature**2 * torch.stack(samples).mean()


def gradients(loss: Tensor, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The gradient of every tensor that has one, by name."""
    found = torch.autograd.grad(loss, list(tensors.values()), allow_unused=True)
    return {name: each for name, each in zip(tensors, found, strict=True) if each is not None}


def assert_same_loss(loss: Tensor, expected: Tensor, tensors: Mapping[str, Tensor]) -> None:
    """Check a loss, and its gradients for tensors by name, against another computation of the loss."""
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=0)
    torch.testing.assert_close(gradients(loss, tensors), gradients(expected, tensors))
