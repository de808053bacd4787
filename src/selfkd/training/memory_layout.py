"""Which memory layout a network can be trained in."""

from __future__ import annotations

from torch import nn

__all__ = ["trains_in_channels_last"]

_BLOCK = 16
"""Channels that oneDNN's kernels for AVX-512 take at a time; those for AVX2 take 8."""


def trains_in_channels_last(network: nn.Module) -> bool:
    """Whether every gradient is right in channels-last layout on a CPU.

    oneDNN (issue 6035, open in torch 2.15) computes the weight gradient of a strided 1x1 convolution of channels-last
    images with fewer input channels than its block writing past its workspace: it is wrong, or the process dies. Only
    very narrow networks have one, most of them in tests.
    """
    return not any(
        isinstance(module, nn.Conv2d)
        and module.kernel_size == (1, 1)
        and module.stride != (1, 1)
        and module.in_channels // module.groups < _BLOCK
        for module in network.modules()
    )
