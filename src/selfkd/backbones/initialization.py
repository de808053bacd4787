"""Initial weights of the papers' networks, where they differ from PyTorch's."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

__all__ = ["FAN_OUT", "FAN_OUT_SMALL_LINEAR", "LOTH_VGG", "TESKD_VGG", "Initialization"]


@dataclass(frozen=True)
class Initialization:
    """Draws every convolution of a module from N(0, sqrt(2 / (kernel height * kernel width * output channels))).

    The output channels are not divided by the groups, so depthwise kernels start small. The biases of batch
    normalisation become 0. Everything else keeps its values.

    Args:
        zero_conv_bias: set the biases of convolutions to 0.
        norm_weight: every weight of batch normalisation.
        linear_std: standard deviation of the weights of linear layers, whose biases become 0; None leaves both as they
            are.
    """

    zero_conv_bias: bool = False
    norm_weight: float = 1
    linear_std: float | None = None

    def __call__(self, module: nn.Module) -> None:
        """Initialise all layers of the module, in place."""
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                if self.zero_conv_bias and layer.bias is not None:
                    nn.init.zeros_(layer.bias)
            elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                nn.init.constant_(layer.weight, self.norm_weight)
                nn.init.zeros_(layer.bias)
            elif isinstance(layer, nn.Linear) and self.linear_std is not None:
                nn.init.normal_(layer.weight, std=self.linear_std)
                nn.init.zeros_(layer.bias)


FAN_OUT = Initialization()
"""ResNeXt of TESKD and DTSKD; ResNet and the ShuffleNets of LOTH."""

FAN_OUT_SMALL_LINEAR = Initialization(linear_std=0.01)
"""MobileNetV2 of LOTH."""

TESKD_VGG = Initialization(zero_conv_bias=True, linear_std=0.01)
"""VGG of TESKD and DTSKD."""

LOTH_VGG = Initialization(zero_conv_bias=True, norm_weight=0.5, linear_std=0.01)
"""VGG of LOTH."""
