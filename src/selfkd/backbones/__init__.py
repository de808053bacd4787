"""Networks and the staged view that methods have of them. Names resolve here first, then in timm."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from selfkd.catalogue import Catalogue, Entry
from selfkd.errors import OptionError, UnknownNameError

if TYPE_CHECKING:
    from torch import nn

    from selfkd.backbones.staged import Staged

__all__ = ["BACKBONES", "create_backbone", "network_factory"]

_RESNET = "selfkd.backbones.resnet_cifar"

BACKBONES = Catalogue(
    "backbone",
    {
        "resnet18_cifar": Entry(f"{_RESNET}:resnet18_cifar", "ResNet-18 with a 3x3 stem, for small images"),
        "resnet34_cifar": Entry(f"{_RESNET}:resnet34_cifar", "ResNet-34 with a 3x3 stem, for small images"),
        "resnet50_cifar": Entry(f"{_RESNET}:resnet50_cifar", "ResNet-50 with a 3x3 stem, for small images"),
        "resnet101_cifar": Entry(f"{_RESNET}:resnet101_cifar", "ResNet-101 with a 3x3 stem, for small images"),
        "resnet152_cifar": Entry(f"{_RESNET}:resnet152_cifar", "ResNet-152 with a 3x3 stem, for small images"),
    },
    listing="'selfkd list backbones' shows ours, timm.list_models() timm's",
)


def network_factory(name: str) -> Callable[..., nn.Module]:
    """What builds the plain network of that name: `factory(num_classes, **options)`.

    Raises: UnknownNameError: if neither our table nor timm has the name; the nearest of both are named.
    """
    if name in BACKBONES or ":" in name:
        factory: Callable[..., nn.Module] = BACKBONES.load(name)
        return factory
    import timm

    from selfkd.backbones.timm_networks import timm_network

    if not timm.is_model(name):
        raise UnknownNameError("backbone", name, [*BACKBONES, *timm.list_models()], BACKBONES.listing)

    return functools.partial(timm_network, name)


def create_backbone(
    name: str, num_classes: int, *, input_size: int | tuple[int, int, int] | None = None, **options: Any
) -> Staged:
    """Build a network by name and wrap it.

    Args:
        name: one of our names, a timm name, or `package.module:function`.
        num_classes: K.
        input_size: side of a square RGB image, or (channels, height, width); None for the network's own
            (32 for the `*_cifar` networks).
        options: arguments of the network (`width`, `pretrained`, ...).
    Raises:
        UnknownNameError: if nobody knows the name.
        OptionError: if the network has no such option.
        BackboneError: if the network cannot be built or staged so.
    """
    from selfkd.backbones.staged import stage

    try:
        network = network_factory(name)(num_classes, **options)
    except TypeError as error:
        raise OptionError("backbone options", options, f"arguments of {name!r}: {error}") from error
    if input_size is None and name in BACKBONES:
        input_size = 32
    return stage(network, input_size=input_size)
