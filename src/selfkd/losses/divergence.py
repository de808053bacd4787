"""Divergences between a prediction and a target distribution.

The released code of TESKD, DTSKD and LOTH adds `epsilon` = 1e-7 to the target probabilities after the softmax, without
renormalising. The methods that the papers compare with do not. Here it is an argument with the default 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from selfkd.losses.precision import full_precision

__all__ = ["kl_to_target", "soft_cross_entropy", "softened_kl"]


def soft_cross_entropy(logits: Tensor, target_probabilities: Tensor) -> Tensor:
    """Cross entropy with soft targets, mean over the batch.

    Args:
        logits: `[B, K]`, before softmax.
        target_probabilities: `[B, K]`, rows summing to 1. Gradient flows unless the caller detaches.
    Returns: 0-d tensor in nat.
    Raises: ValueError: if the shapes differ.
    Source: Kim et al. 2021 (PS-KD), arXiv:2006.12000, equation 3.
    """
    _same_shape(logits, target_probabilities)
    log_predicted_BK = full_precision(logits).log_softmax(dim=1)
    return -(full_precision(target_probabilities) * log_predicted_BK).sum(dim=1).mean()


def kl_to_target(logits: Tensor, target_probabilities: Tensor, epsilon: float = 0.0) -> Tensor:
    """Kullback-Leibler divergence from a given distribution to the prediction, mean over the batch.

    `(1/B) sum_ic t_ic (ln t_ic - log_softmax(z)_ic)` with `t = target_probabilities + epsilon`; 0 ln 0 is 0.

    Args:
        logits: `[B, K]`, before softmax.
        target_probabilities: `[B, K]`, rows summing to 1. Gradient flows unless the caller detaches.
        epsilon: >= 0, added to every target probability, without renormalising.
    Returns: 0-d tensor in nat.
    Raises: ValueError: if the shapes differ or `epsilon` is negative.
    Source: Li et al. (DTSKD), equation for L_HD; released code for `epsilon`.
    """
    _same_shape(logits, target_probabilities)
    _non_negative_epsilon(epsilon)
    target_BK = full_precision(target_probabilities) + epsilon
    log_predicted_BK = full_precision(logits).log_softmax(dim=1)
    return (torch.xlogy(target_BK, target_BK) - target_BK * log_predicted_BK).sum(dim=1).mean()


def softened_kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float, epsilon: float = 0.0) -> Tensor:
    """Kullback-Leibler divergence of softened predictions, mean over the batch, times temperature squared.

    Args:
        student_logits: `[B, K]`, floating, before softmax.
        teacher_logits: `[B, K]`, same device. Gradient flows unless the caller detaches.
        temperature: > 0, dimensionless; 1 leaves the predictions unsoftened.
        epsilon: >= 0, added to every softened teacher probability, without renormalising.
    Returns: 0-d tensor in nat; 0 up to rounding when both arguments are equal and `epsilon` is 0.
    Raises: ValueError: if the shapes differ, `temperature <= 0` or `epsilon < 0`.
    Source: Hinton et al. 2015, arXiv:1503.02531, section 2.
    """
    _same_shape(student_logits, teacher_logits)
    _non_negative_epsilon(epsilon)
    if temperature <= 0:
        raise ValueError(f"softened_kl: temperature must be > 0, got {temperature}")
    log_student_BK = (full_precision(student_logits) / temperature).log_softmax(dim=1)
    log_teacher_BK = (full_precision(teacher_logits) / temperature).log_softmax(dim=1)
    teacher_BK = log_teacher_BK.exp()
    if epsilon:
        teacher_BK = teacher_BK + epsilon
        log_teacher_BK = teacher_BK.log()
    return (teacher_BK * (log_teacher_BK - log_student_BK)).sum(dim=1).mean() * temperature**2


def _non_negative_epsilon(epsilon: float) -> None:
    if epsilon < 0:
        raise ValueError(f"epsilon must be >= 0, got {epsilon}")


def _same_shape(logits: Tensor, target: Tensor) -> None:
    if logits.shape != target.shape or logits.ndim != 2:
        raise ValueError(
            f"expected predictions and targets of one shape [B, K], got {tuple(logits.shape)} and {tuple(target.shape)}"
        )
