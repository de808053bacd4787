"""Losses are computed in float32 even where the network runs in half precision."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["full_precision"]


def full_precision(tensor: Tensor) -> Tensor:
    """The tensor in float32 if it is float16 or bfloat16, else unchanged (float64 stays float64).

    Autocast does this for softmax on CUDA but not on CPU, so the losses do not rely on it.
    """
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
