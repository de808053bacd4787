"""Losses computed value by value in Python, to hold the library's against."""

import math

from torch import Tensor


def probabilities(logits: Tensor, temperature: float = 1) -> list[list[float]]:
    """The softmax of each row of `[B, K]`."""
    rows = [[math.exp(value / temperature) for value in row] for row in logits.tolist()]
    return [[value / sum(row) for value in row] for row in rows]


def cross_entropy(logits: Tensor, labels: Tensor) -> float:
    """Mean over the batch."""
    rows = probabilities(logits)
    return -sum(math.log(row[label]) for row, label in zip(rows, labels.tolist(), strict=True)) / len(rows)


def divergence(learner: Tensor, teacher: Tensor, temperature: float = 1) -> float:
    """`T^2 KL(teacher || learner)`, mean over the batch."""
    learnt, taught = probabilities(learner, temperature), probabilities(teacher, temperature)
    pairs = [pair for rows in zip(learnt, taught, strict=True) for pair in zip(*rows, strict=True)]
    return temperature**2 * sum(q * math.log(q / p) for p, q in pairs) / len(learnt)
