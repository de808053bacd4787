"""Numbers of parameters and multiply-adds, and operations as the papers' tables count them.

DTSKD's Table 2 was made with ptflops (specification, section 4). Beside multiply-adds it counts an operation for every
bias that is added and every value that an average pooling takes, and two for every value that is normalised. Of ReLU
and max pooling it counts the layer and the function that the layer calls: two for every value that they take.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from selfkd.methods.base import Method

aten = torch.ops.aten
Shape = Sequence[int]


# FlopCounterMode takes two operations for a multiply-add, and so do these.
def _convolution(images: Shape, weight: Shape, bias: Shape | None, *_: Any, out_shape: Shape, **__: Any) -> int:
    return 2 * math.prod(out_shape) * (math.prod(weight[1:]) + (bias is not None))


def _linear(bias: Shape, vectors: Shape, *_: Any, out_shape: Shape, **__: Any) -> int:
    return 2 * math.prod(out_shape) * (vectors[1] + 1)


def _for_each_value(operations: int) -> Callable[..., int]:
    return lambda values, *_, **__: 2 * operations * math.prod(values)


_OPERATIONS = {
    aten.convolution: _convolution,
    aten.addmm: _linear,
    aten.native_batch_norm: _for_each_value(2),  # or, by torch's version:
    aten._native_batch_norm_legit_no_training: _for_each_value(2),
    aten.relu: _for_each_value(2),
    aten.relu_: _for_each_value(2),
    aten.max_pool2d_with_indices: _for_each_value(2),
    aten.mean: _for_each_value(1),
}


def parameters_of(*modules: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def added_parameters(method: Method) -> int:
    """Number of a method's parameters beside those of the network that it deploys."""
    return parameters_of(method) - parameters_of(method.backbone)


def multiply_adds(
    compute: Callable[[torch.Tensor], object], size: Sequence[int] = (3, 32, 32), device: str = "cpu"
) -> int:
    """Of convolutions and linear layers, for one image of a size; the network is in eval mode."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        compute(torch.zeros(1, *size, device=device))
    return int(counter.get_total_flops()) // 2


def mega_operations(predict: Callable[[torch.Tensor], object]) -> float:
    """Of one image of 32x32, in 10^6; the network is in eval mode and on the meta device."""
    with FlopCounterMode(display=False, custom_mapping=_OPERATIONS) as counter, torch.no_grad():
        predict(torch.zeros(1, 3, 32, 32, device="meta"))
    return counter.get_total_flops() / 2e6


def thop_giga_operations(predict: Callable[[torch.Tensor], object]) -> float:
    """As thop counts: multiply-adds of convolutions and linear layers, and four for every value that is normalised.

    Of one image of 32x32, in 10^9; the network is in eval mode and on the meta device.
    """
    normalisation = {
        aten.native_batch_norm: _for_each_value(4),
        aten._native_batch_norm_legit_no_training: _for_each_value(4),
    }
    with FlopCounterMode(display=False, custom_mapping=normalisation) as counter, torch.no_grad():
        predict(torch.zeros(1, 3, 32, 32, device="meta"))
    return counter.get_total_flops() / 2e9
