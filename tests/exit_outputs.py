"""Methods with exits whose network and exits give chosen outputs, whatever the images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import golden
import selfkd
from selfkd.branches.exits import ExitOutput
from selfkd.contract import Features
from selfkd.methods.base import Method

HEADS = ("branch1", "branch2", "branch3", "main")
"""The exits, shallowest first; the network's own classifier is the last."""
DATA = selfkd.DatasetInfo(golden.B, golden.K)
BATCH = selfkd.Batch(torch.zeros(golden.B, 3, 16, 16), golden.LABELS, torch.arange(golden.B))
START = selfkd.Progress(0, 1)


@dataclass(frozen=True)
class GivenOutputs:
    """The tensors of a step, float64 leaves that require gradients.

    Args:
        logits: by head, `[4, 10]`.
        maps: what the exits and the classifier pool, by head, `[4, D, 2, 2]`, positive and negative.
        pooled: the network's own pooled vector `[4, D]`, a leaf of its own.
    """

    logits: dict[str, Tensor]
    maps: dict[str, Tensor]
    pooled: Tensor

    @property
    def leaves(self) -> dict[str, Tensor]:
        """All tensors, by name."""
        maps = {f"map of {head}": each for head, each in self.maps.items()}
        return {**self.logits, **maps, "pooled": self.pooled}


def given_outputs(method: Method) -> GivenOutputs:
    """Let the network and the exits of a method give chosen logits and maps."""
    z = dict(zip(("main", "branch1", "branch2", "branch3"), golden.logits(), strict=True))
    generator = torch.Generator().manual_seed(3)
    shape = (golden.B, *method.backbone.final_shape)
    maps = {head: torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_() for head in HEADS}
    pooled = maps["main"].detach().mean(dim=(2, 3)).requires_grad_()
    method.double()
    method.backbone.forward = lambda images: Features((pooled,) * 4, maps["main"], pooled, z["main"])
    method.branches.forward = lambda stages: {head: ExitOutput(maps[head], z[head]) for head in HEADS[:-1]}
    return GivenOutputs({head: z[head] for head in HEADS}, maps, pooled)


def on_resnet18(name: str, num_classes: int, **options: Any) -> Method:
    """A method on the ResNet-18 of the papers, in eval mode."""
    backbone = selfkd.create_backbone("resnet18_cifar", num_classes)
    return selfkd.create_method(name, backbone, selfkd.DatasetInfo(50_000, num_classes), **options).eval()
