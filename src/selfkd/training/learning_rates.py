"""The learning rate of each parameter, as a factor of the optimiser's, for every optimiser."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer

from selfkd.backbones.parameter_parts import parameter_parts
from selfkd.backbones.staged import Staged
from selfkd.errors import BackboneError, OptionError
from selfkd.option_checks import positive

__all__ = ["LearningRates", "scale_learning_rates", "unscaled_learning_rate"]

_SCALE = "lr_scale"  # timm's name for the factor of a parameter group


@dataclass(frozen=True, kw_only=True)
class LearningRates:
    """How the learning rates of the parameters differ, for every optimiser.

    Args:
        head_lr_factor: the learning rate of the classifier and of all that the method adds to the network, divided by
            optimizer.lr; > 0. These parts start from random weights, also where the network starts from trained ones.
        layer_decay: the learning rate of a layer, divided by that of the next deeper layer, in (0, 1]. The last layer
            has optimizer.lr. For timm's networks; None for one learning rate in all layers.
    Raises: OptionError: if a value is out of range.
    """

    head_lr_factor: float = 1.0
    layer_decay: float | None = None

    def __post_init__(self) -> None:
        positive("optimizer.head_lr_factor", self.head_lr_factor)
        if self.layer_decay is not None and not 0 < self.layer_decay <= 1:
            raise OptionError("optimizer.layer_decay", self.layer_decay, "in (0, 1], or null")

    def groups(
        self, groups: Sequence[Mapping[str, Any]], networks: Sequence[Staged], frozen: Collection[nn.Parameter] = ()
    ) -> list[dict[str, Any]]:
        """Divide parameter groups so that all parameters of a group have one factor, and all or none are frozen.

        torch's fused optimisers need groups whose parameters take their first step together.

        Args:
            groups: the method's parameter groups; their other settings are kept.
            networks: the networks that are trained. All other parameters are what the method adds.
            frozen: parameters that do not train in the first epochs.
        Returns: groups with the factor as `lr_scale`, which `scale_learning_rates` applies.
        Raises: BackboneError: if `layer_decay` is set, and a network does not say which layers it has.
        """
        factors = self._factors(networks)
        still = {id(parameter) for parameter in frozen}
        divided: list[dict[str, Any]] = []
        for group in groups:
            parts: dict[tuple[float, bool], list[nn.Parameter]] = {}
            for parameter in group["params"]:
                factor = factors.get(id(parameter), self.head_lr_factor)
                parts.setdefault((factor, id(parameter) in still), []).append(parameter)
            divided += [{**group, "params": part, _SCALE: factor} for (factor, _), part in parts.items()]
        return divided

    def _factors(self, networks: Sequence[Staged]) -> dict[int, float]:
        """The factor of every parameter of the networks, by its identity."""
        factors: dict[int, float] = {}
        for staged in networks:
            network = staged.network
            layers = {} if self.layer_decay is None else _layer_factors(network, self.layer_decay)
            head = parameter_parts(staged).classifier if self.head_lr_factor != 1 else frozenset()
            for name, parameter in network.named_parameters():
                factors[id(parameter)] = layers.get(id(parameter), 1.0) * (self.head_lr_factor if name in head else 1.0)
        return factors


def scale_learning_rates(optimizer: Optimizer) -> Optimizer:
    """Multiply the learning rate of every parameter group by its `lr_scale`, before a schedule is built."""
    for group in optimizer.param_groups:
        group["lr"] *= group.get(_SCALE, 1.0)
    return optimizer


def unscaled_learning_rate(groups: Sequence[Mapping[str, Any]]) -> float:
    """The learning rate of a parameter whose factor is 1, as the schedule has set it now.

    Args:
        groups: the optimiser's parameter groups.
    """
    group = groups[0]
    return float(group["lr"] / group.get(_SCALE, 1.0))


def _layer_factors(network: nn.Module, layer_decay: float) -> dict[int, float]:
    """The factor of every parameter by its identity, as timm computes it: `layer_decay` to the power of the depth.

    Source: Bao et al. 2022, BEiT, arXiv:2106.08254; timm's `param_groups_layer_decay`.
    """
    # The import takes seconds. timm documents the function here, but does not mark it as exported.
    from timm.optim import param_groups_layer_decay  # type: ignore[attr-defined]

    if not hasattr(network, "group_matcher"):
        raise BackboneError(
            f"optimizer.layer_decay={layer_decay} cannot be used with {type(network).__name__}: only timm's networks "
            "say in which order their layers lie (group_matcher); use one of them, or leave optimizer.layer_decay out"
        )
    groups = param_groups_layer_decay(network, layer_decay=layer_decay)
    return {id(parameter): float(group[_SCALE]) for group in groups for parameter in group["params"]}
