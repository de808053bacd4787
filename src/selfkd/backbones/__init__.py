"""Networks and the staged view that methods have of them. Names resolve here first, then in timm."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from selfkd.catalogue import Catalogue, Entry
from selfkd.errors import BackboneError, OptionError, UnknownNameError, UserError

if TYPE_CHECKING:
    from torch import nn

    from selfkd.backbones.staged import Staged

__all__ = ["BACKBONES", "as_staged", "create_backbone", "network_factory"]

# Module, then its networks: the function of that name, and what it gives.
_FAMILIES = {
    "resnet_cifar": {
        "resnet18_cifar": "ResNet-18 with a 3x3 stem, for small images",
        "resnet34_cifar": "ResNet-34 with a 3x3 stem, for small images",
        "resnet50_cifar": "ResNet-50 with a 3x3 stem, for small images",
        "resnet101_cifar": "ResNet-101 with a 3x3 stem, for small images",
        "resnet152_cifar": "ResNet-152 with a 3x3 stem, for small images",
    },
    "seresnet_cifar": {
        "seresnet18_cifar": "SE-ResNet-18 for small images, as in TESKD and DTSKD",
        "seresnet34_cifar": "SE-ResNet-34 for small images, as in TESKD and DTSKD",
    },
    "resnext_cifar": {
        "resnext18_cifar": "ResNeXt-18 for small images, without groups, as in TESKD and DTSKD",
        "resnext34_cifar": "ResNeXt-34 for small images, without groups, as in TESKD and DTSKD",
        "resnext18_cifar_grouped": "ResNeXt-18 for small images, with 32 groups",
        "resnext34_cifar_grouped": "ResNeXt-34 for small images, with 32 groups",
        "resnext152_cifar_grouped": "ResNeXt-152 for small images, with 32 groups",
    },
    "vgg_cifar": {
        "vgg11_cifar": "VGG-11 for small images, as in TESKD and DTSKD",
        "vgg16_cifar": "VGG-16 for small images, as in TESKD and DTSKD",
        "vgg19_cifar": "VGG-19 for small images, as in TESKD and DTSKD",
        "vgg11_cifar_loth": "VGG-11 for small images, as in LOTH",
        "vgg16_cifar_loth": "VGG-16 for small images, as in LOTH",
        "vgg19_cifar_loth": "VGG-19 for small images, as in LOTH",
    },
    "mobilenetv1_cifar": {
        "mobilenetv1_cifar": "MobileNetV1 for small images, as in LOTH",
    },
    "mobilenetv2_cifar": {
        "mobilenetv2_cifar": "MobileNetV2 for small images, as in LOTH",
    },
    "shufflenetv1_cifar": {
        "shufflenetv1_cifar": "ShuffleNetV1 with three groups for small images, as in LOTH",
    },
    "shufflenetv2_cifar": {
        "shufflenetv2_cifar": "ShuffleNetV2 for small images, as in DTSKD",
        "shufflenetv2_cifar_loth": "ShuffleNetV2 for small images, as in LOTH",
    },
}

BACKBONES = Catalogue(
    "backbone",
    {
        name: Entry(f"{__name__}.{module}:{name}", summary)
        for module, networks in _FAMILIES.items()
        for name, summary in networks.items()
    },
    listing="'selfkd list backbones' shows ours, timm.list_models() timm's",
    takes_own=True,
)


def network_factory(name: str) -> Callable[..., nn.Module]:
    """What builds the network of that name: `factory(num_classes, **options)`.

    Somebody's own (`package.module:function`) may give a plain network that knows its stages, or a `Staged`.

    Raises:
        UnknownNameError: if neither our table nor timm has the name; the nearest of both are named.
        UserError: if somebody's own cannot be imported or called.
    """
    if name in BACKBONES or ":" in name:
        factory: Callable[..., nn.Module] = BACKBONES.load(name)
        if not callable(factory):
            raise UserError(f"backbone {name!r} is {factory!r}; it must be a function of num_classes")
        return factory
    import timm

    from selfkd.backbones.timm_networks import timm_network

    if not timm.is_model(name):
        raise UnknownNameError("backbone", name, [*BACKBONES, *timm.list_models()], BACKBONES.listing)

    return functools.partial(timm_network, name)


def as_staged(network: Any, input_size: int | tuple[int, int, int] | None) -> Staged:
    """What a network factory gave, staged if it is not yet.

    Raises: BackboneError: if it is no network, or cannot be staged.
    """
    from torch import nn

    from selfkd.backbones.staged import Staged, stage

    if isinstance(network, Staged):
        return network
    if not isinstance(network, nn.Module):
        raise BackboneError(f"a backbone must be a torch.nn.Module or a Staged; got {type(network).__name__}")
    return stage(network, input_size=input_size)


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
    factory = network_factory(name)
    try:
        inspect.signature(factory).bind(num_classes, **options)
    except TypeError as error:
        raise OptionError("backbone options", options, f"arguments of {name!r}: {error}") from error
    if input_size is None and name in BACKBONES:
        input_size = 32
    return as_staged(factory(num_classes, **options), input_size)
