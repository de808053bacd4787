"""Distances between feature vectors."""

from __future__ import annotations

from torch import Tensor

from selfkd.losses.precision import full_precision

__all__ = ["masked_squared_distance"]


def masked_squared_distance(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Sum of squared differences wherever student or teacher is positive.

    The sum runs over batch and channels, so it grows with the batch: TESKD's weight of 1e-7 is for batches of 128 in
    one process.

    Args:
        student_features: `[B, D]`.
        teacher_features: `[B, D]`. Gradient flows unless the caller detaches.
    Returns: 0-d tensor.
    Raises: ValueError: if the shapes differ.
    Source: Li et al. (TESKD), equation 5; released code for mask and sum.
    """
    if student_features.shape != teacher_features.shape:
        raise ValueError(
            f"expected features of one shape, got {tuple(student_features.shape)} and {tuple(teacher_features.shape)}"
        )
    student, teacher = full_precision(student_features), full_precision(teacher_features)
    counted = (student > 0) | (teacher > 0)
    return ((student - teacher).square() * counted).sum()
