"""Inputs of the specification's golden values (section 5): built by formula, independent of parameter names."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

B, K = 4, 10
LABELS = torch.tensor([1, 4, 7, 0])
_N = (10 * torch.arange(B)[:, None] + torch.arange(K)).double()
_WAVES = ((2.0, 0.5, 0.1), (1.5, 0.7, 0.3), (1.8, 0.9, 0.5), (2.2, 1.1, 0.7))


def logits(dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """z0 (main) to z3, requiring gradients."""
    return [(a * torch.sin(b * _N + c)).to(dtype).requires_grad_() for a, b, c in _WAVES]


def fused_logits(dtype: torch.dtype = torch.float64) -> Tensor:
    """zf (LOTH's virtual teacher), requiring gradients."""
    return (2.5 * torch.sin(1.3 * _N + 0.9)).to(dtype).requires_grad_()


def histories() -> list[Tensor]:
    """h0 to h3, float64."""
    return [torch.softmax(torch.sin((0.4 + 0.1 * b) * _N + 0.2 * b), dim=1) for b in range(4)]


def features() -> list[Tensor]:
    """F0 (teacher) to F3 (section 5.3), pooled and rectified: `[4, 6]` float64."""
    m = (6 * torch.arange(4)[:, None] + torch.arange(6)).double()
    return [torch.sin(0.3 * (b + 1) * m + 0.2).clamp(min=0) for b in range(4)]


def _hash(k: Tensor) -> Tensor:
    return ((7919 * k * k + 104729 * k + 31337) % 1000003).double() / 1000003


def fill_by_shape(network: nn.Module) -> nn.Module:
    """Give every layer the specification's weights, in float64 and eval mode; returns the network."""
    network.double().eval()
    for module in network.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
            weight = module.weight.data
            fan = weight[0].numel()
            weight.copy_(((2 * _hash(torch.arange(weight.numel())) - 1) * math.sqrt(6 / fan)).view_as(weight))
            if module.bias is not None:
                module.bias.data.fill_(0.01)
        elif isinstance(module, _BatchNorm):
            module.weight.data.fill_(1)
            module.bias.data.fill_(0.1)
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.fill_(0.05)
            module.running_var.fill_(4)
    for name, parameter in network.named_parameters():
        if name.rpartition(".")[2] == "gamma":  # the balance of LOTH's attention
            parameter.data.fill_(0.3)
    return network


def images() -> Tensor:
    """`[2, 3, 32, 32]` float64."""
    return (2 * _hash(torch.arange(2 * 3 * 32 * 32) + 5) - 1).view(2, 3, 32, 32)


def assert_logits(logits: Tensor, expected: tuple[tuple[float, float, float], float, float]) -> None:
    """Hold logits to a row of section 5.7: the first three of sample 0, the sum of all, the L2 norm."""
    first, total, norm = expected
    assert logits[0, :3].tolist() == pytest.approx(first, rel=1e-6)
    assert logits.sum().item() == pytest.approx(total, rel=1e-6)
    assert logits.norm().item() == pytest.approx(norm, rel=1e-6)
