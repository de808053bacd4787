"""Bilinear upsampling as one operation for the compiler.

Inductor splits PyTorch's operation into gathers and adds up their gradient element by element; on a CPU compiled TESKD
was slower than eager TESKD. A custom operation keeps PyTorch's kernels, forward and backward.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["upsampled"]


def upsampled(maps: Tensor, height: int, width: int, *, align_corners: bool = True) -> Tensor:
    """Maps `[B, C, H, W]` interpolated bilinearly to `[B, C, height, width]`.

    Args:
        maps: the maps.
        height: rows of the result.
        width: columns of the result.
        align_corners: whether the centres of the corner pixels stay in place; otherwise the corners of the images do.
    """
    result: Tensor = _upsample(maps, height, width, align_corners)
    return result


def _forward(maps: Tensor, height: int, width: int, align_corners: bool) -> Tensor:
    result: Tensor = torch.ops.aten.upsample_bilinear2d(maps, [height, width], align_corners)
    return result


def _backward(gradient: Tensor, size: list[int], align_corners: bool) -> Tensor:
    result: Tensor = torch.ops.aten.upsample_bilinear2d_backward(gradient, gradient.shape[2:], size, align_corners)
    return result


_upsample = torch.library.custom_op("selfkd::upsample_bilinear", _forward, mutates_args=())
_upsample_backward = torch.library.custom_op("selfkd::upsample_bilinear_backward", _backward, mutates_args=())
# The fake versions give shapes and layouts without computing; PyTorch knows them for its own operations.
_upsample.register_fake(_forward)
_upsample_backward.register_fake(_backward)


def _remember_arguments(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.size = list(inputs[0].shape)
    ctx.align_corners = inputs[3]


def _gradient(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
    return _upsample_backward(gradient, ctx.size, ctx.align_corners), None, None, None


_upsample.register_autograd(_gradient, setup_context=_remember_arguments)
