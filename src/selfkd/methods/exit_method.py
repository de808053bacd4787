"""The common part of methods with exits on stages 1 to 3: their heads and their exits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from selfkd.branches.exits import ExitOutput, StageExits, logits_of_exits
from selfkd.contract import Features, Needs
from selfkd.methods.base import Method

__all__ = ["ExitMethod"]


class ExitMethod(Method):
    """A method whose heads are the network, its exits and the mean of their logits. Abstract: a subclass is final.

    A subclass calls `build_exits` in its `__init__`, and `run_exits` in its `forward`.

    Attributes:
        branches: the exits.
    """

    group = "structure"
    needs = Needs(stages="halving_or_equal")
    branches: StageExits

    def build_exits(self, chains: Iterable[nn.Module]) -> None:
        """Build an exit on each of stages 1 to 3.

        Args:
            chains: for each stage, shallowest first, the layers from its map to one with the last map's channels.
        """
        self.branches = StageExits(chains, self.backbone.final_shape[0], self.num_classes)

    def run_exits(self, images: Tensor) -> tuple[Features, dict[str, ExitOutput], dict[str, Tensor]]:
        """The network's features, the outputs of the exits, and the logits of all heads, "main" first."""
        features: Features = self.backbone(images)
        exits = self.branches(features.stages[:-1])
        return features, exits, logits_of_exits(features.logits, exits)

    def predict(self, images: Tensor) -> dict[str, Tensor]:
        return self.run_exits(images)[2]

    def exits(self) -> Mapping[str, nn.Module]:
        """The plain network as "main", and the networks that end at an exit, which share their tensors with the method.

        Raises: BackboneError: if the network cannot be cut after a stage; `deployed()` works nevertheless.
        """
        return self.branches.deployed(self.backbone)
