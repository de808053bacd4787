"""Label distributions: one-hot and smoothed."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["label_probabilities", "smooth"]


def label_probabilities(labels: Tensor, num_classes: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Labels as distributions.

    Args:
        labels: `[B]` int64 class indices, or soft `[B, K]`, which are only converted to `dtype`.
        num_classes: K.
        dtype: floating type of the result.
    Returns: `[B, K]`.
    Raises: ValueError: if soft labels have another number of classes.
    """
    if labels.ndim == 2:
        if labels.shape[1] != num_classes:
            raise ValueError(f"soft labels of shape {tuple(labels.shape)} for {num_classes} classes")
        return labels.to(dtype)
    one_hot_BK = torch.zeros(labels.shape[0], num_classes, dtype=dtype, device=labels.device)
    return one_hot_BK.scatter_(1, labels.unsqueeze(1), 1.0)


def smooth(probabilities: Tensor, smoothing: float) -> Tensor:
    """`(1 - smoothing) * probabilities + smoothing / K`.

    Args:
        probabilities: `[B, K]`.
        smoothing: in [0, 1].
    Source: Szegedy et al. 2016, arXiv:1512.00567, section 7 (PyTorch's convention).
    """
    return probabilities * (1 - smoothing) + smoothing / probabilities.shape[1]
