"""Distances between features: vectors or maps."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from selfkd.losses.precision import full_precision

__all__ = [
    "attention_distance",
    "attention_maps",
    "euclidean_distance",
    "masked_squared_distance",
    "mean_squared_distance",
]


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


def attention_maps(feature_maps: Tensor) -> Tensor:
    """The mean of the squares over the channels, as a vector of length 1 for each image.

    Args:
        feature_maps: `[B, C, H, W]`.
    Returns: `[B, H * W]`, float32 or wider; a map of zeros gives zeros.
    Source: Zagoruyko and Komodakis 2017, arXiv:1612.03928, section 3.1, with squares (p = 2).
    """
    return normalize(full_precision(feature_maps).square().mean(dim=1).flatten(1), dim=1)


def attention_distance(student_maps: Tensor, teacher_maps: Tensor) -> Tensor:
    """Mean of the squared differences of attention maps, over batch and positions.

    Args:
        student_maps: `[B, C, H, W]`.
        teacher_maps: `[B, C', H, W]`. Gradient flows unless the caller detaches.
    Returns: 0-d tensor.
    Raises: ValueError: if the maps differ in batch, height or width.
    Source: Ji et al. 2021 (FRSKD), arXiv:2103.08273; released code for the mean.
    """
    student, teacher = ((each.shape[0], *each.shape[2:]) for each in (student_maps, teacher_maps))
    if student != teacher:
        raise ValueError(
            "expected maps of one batch, height and width, "
            f"got {tuple(student_maps.shape)} and {tuple(teacher_maps.shape)}"
        )
    return (attention_maps(student_maps) - attention_maps(teacher_maps)).square().mean()


def _checked(student_features: Tensor, teacher_features: Tensor) -> tuple[Tensor, Tensor]:
    if student_features.shape != teacher_features.shape:
        raise ValueError(
            f"expected features of one shape, got {tuple(student_features.shape)} and {tuple(teacher_features.shape)}"
        )
    return full_precision(student_features), full_precision(teacher_features)
