"""Whether a network can be trained in channels-last layout."""

from __future__ import annotations

from torch import nn

__all__ = ["trains_in_channels_last"]

_BLOCK = 16
"""Number of channels that oneDNN's AVX-512 kernels process at a time; the AVX2 kernels process 8."""


def trains_in_channels_last(network: nn.Module) -> bool:
    """Whether every gradient is right in channels-last layout on a CPU.

    oneDNN has a bug (issue 6035, open in torch 2.15). In a strided 1x1 convolution of channels-last images with fewer
    input channels than a block, it writes past its workspace: the weight gradient is wrong, or the process dies. Only
    very narrow networks have such a convolution, most of them in tests.
    """
    return not any(
        isinstance(module, nn.Conv2d)
        and module.kernel_size == (1, 1)
        and module.stride != (1, 1)
        and module.in_channels // module.groups < _BLOCK
        for module in network.modules()
    )
