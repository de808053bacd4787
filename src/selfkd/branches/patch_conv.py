"""A convolution whose windows do not overlap, as one matrix product."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import linear

__all__ = ["PatchConv2d"]


class PatchConv2d(nn.Conv2d):
    """`Conv2d(in_channels, out_channels, size, stride=size)`: the same function and parameters.

    It is computed as a matrix product, because cuDNN and oneDNN have a slow backward pass for large strided kernels
    (for TESKD's 8x8 four times that of the product, on the CPU measured). With channels-last layout the weight is a
    view, not a copy.

    Args:
        in_channels: C of the maps.
        out_channels: channels of the result.
        size: side of a window, and distance between windows.
    """

    def __init__(self, in_channels: int, out_channels: int, size: int) -> None:
        super().__init__(in_channels, out_channels, size, stride=size)

    def forward(self, maps: Tensor) -> Tensor:
        """`[B, C, H, W]` to `[B, out, H // size, W // size]`; pixels outside the last whole window are left out."""
        batch, channels, height, width = maps.shape
        size, _ = self.kernel_size
        rows, columns = height // size, width // size
        patches = (
            maps[:, :, : rows * size, : columns * size]
            .permute(0, 2, 3, 1)
            .reshape(batch, rows, size, columns, size, channels)
            .transpose(2, 3)
            .reshape(batch * rows * columns, -1)
        )
        weight = self.weight.permute(0, 2, 3, 1).reshape(self.out_channels, -1)
        return linear(patches, weight, self.bias).view(batch, rows, columns, -1).permute(0, 3, 1, 2)
