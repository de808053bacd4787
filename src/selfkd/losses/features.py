"""Distances between features: vectors or maps."""

from __future__ import annotations

import torch
from torch import Tensor

from selfkd.losses.precision import full_precision

__all__ = ["euclidean_distance", "masked_squared_distance", "mean_squared_distance"]


def masked_squared_distance(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Sum of squared differences wherever student or teacher is positive.

    The sum runs over batch, channels and, for maps, positions, so it grows with the batch: TESKD's weight of 1e-7 and
    BYOT's of 1e-6 are for batches of 128 in one process.

    Args:
        student_features: `[B, D]` or `[B, D, H, W]`.
        teacher_features: of the same shape. Gradient flows unless the caller detaches.
    Returns: 0-d tensor.
    Raises: ValueError: if the shapes differ.
    Source: Li et al. (TESKD), equation 5; released code for mask and sum.
    """
    student, teacher = _checked(student_features, teacher_features)
    counted = (student > 0) | (teacher > 0)
    return ((student - teacher).square() * counted).sum()


def mean_squared_distance(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Mean of squared differences over batch, channels and positions.

    Args:
        student_features: `[B, D]` or `[B, D, H, W]`.
        teacher_features: of the same shape. Gradient flows unless the caller detaches.
    Returns: 0-d tensor.
    Raises: ValueError: if the shapes differ.
    Source: Lee, Lee 2022 (BEED), released code.
    """
    student, teacher = _checked(student_features, teacher_features)
    return (student - teacher).square().mean()


def euclidean_distance(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Square root of the sum of squared differences: the Frobenius norm of the difference of two whole batches.

    It grows with the square root of the batch. Where both are equal, the gradient is 0.

    Args:
        student_features: `[B, D]`.
        teacher_features: `[B, D]`. Gradient flows unless the caller detaches.
    Returns: 0-d tensor.
    Raises: ValueError: if the shapes differ.
    Source: Zhang, Bao, Ma 2021 (ECSD), released code.
    """
    student, teacher = _checked(student_features, teacher_features)
    distance: Tensor = torch.linalg.vector_norm(student - teacher)
    return distance


def _checked(student_features: Tensor, teacher_features: Tensor) -> tuple[Tensor, Tensor]:
    if student_features.shape != teacher_features.shape:
        raise ValueError(
            f"expected features of one shape, got {tuple(student_features.shape)} and {tuple(teacher_features.shape)}"
        )
    return full_precision(student_features), full_precision(teacher_features)
