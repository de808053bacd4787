"""Networks and the staged view that methods have of them.

A name is one of ours, `torchvision/<name>`, `package.module:function` for somebody's own, or else timm's.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from selfkd.backbones.timm_sources import is_timm_name, timm_names
from selfkd.backbones.torchvision_stages import TIMM_NAMES, TORCHVISION_STAGES
from selfkd.catalogue import Catalogue, Entry, import_target, is_own
from selfkd.errors import BackboneError, OptionError, UnknownNameError, UserError, shown

if TYPE_CHECKING:
    from torch import nn

    from selfkd.backbones.staged import Staged

__all__ = ["BACKBONES", "TORCHVISION", "as_staged", "create_backbone", "network_factory", "network_target"]

TORCHVISION = "torchvision/"
"""Begins the names of torchvision's networks; no name of a module or of a timm network does."""

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
    listing="'selfkd list backbones' shows ours, timm.list_models() timm's; torchvision's are 'torchvision/resnet18'",
    takes_own=True,
)


def network_target(name: str) -> str:
    """`module:attribute` in whose signature a network's options stand, found without importing anything heavy.

    Raises:
        UnknownNameError: if nobody has the name; the nearest of ours, timm's and torchvision's are named.
        UserError: if it is a function of timm or torchvision, whose networks have names of their own here.
    """
    if name in BACKBONES:
        return BACKBONES[name].target
    if is_own(name):
        _refuse_if_it_has_a_name(name)
        return name
    if name.startswith(TORCHVISION):
        network = name.removeprefix(TORCHVISION)
        if network in TIMM_NAMES:
            raise UserError(
                f"torchvision's {network} gives no maps of its stages; timm's does: backbone={TIMM_NAMES[network]}"
            )
        if network in TORCHVISION_STAGES:
            return f"{__name__}.torchvision_networks:torchvision_network"
    elif is_timm_name(name):
        return f"{__name__}.timm_networks:timm_network"
    names = [*BACKBONES, *(f"{TORCHVISION}{each}" for each in TORCHVISION_STAGES), *timm_names()]
    raise UnknownNameError("backbone", name, names, BACKBONES.listing)


def network_factory(name: str) -> Callable[..., nn.Module]:
    """What builds the network of that name: `factory(num_classes, **options)`.

    Somebody's own (`package.module:function`) may give a plain network that knows its stages, or a `Staged`.

    Raises:
        UnknownNameError: if nobody has the name; the nearest of ours, timm's and torchvision's are named.
        UserError: if somebody's own cannot be imported, or its first parameter is no number of classes.
    """
    target = network_target(name)
    if name in BACKBONES:
        factory: Callable[..., nn.Module] = BACKBONES.load(name)
        return factory
    if is_own(name):
        return _checked_own(name, BACKBONES.load(name))
    return functools.partial(import_target(target), name.removeprefix(TORCHVISION))


def _refuse_if_it_has_a_name(name: str) -> None:
    """The functions of timm and torchvision take other arguments first; some would begin a download."""
    module, _, function = name.partition(":")
    library = module.partition(".")[0]
    offered = {"torchvision": f"{TORCHVISION}{function}", "timm": function}.get(library)
    if offered is not None and (function in TORCHVISION_STAGES if library == "torchvision" else is_timm_name(function)):
        raise UserError(
            f"backbone {name!r} takes no number of classes first; {library}'s network is backbone={offered}"
        )


def _checked_own(name: str, factory: Any) -> Callable[..., nn.Module]:
    """Somebody's own function or class, if it can be called with a number of classes; it is not called for that."""
    if not callable(factory):
        raise UserError(f"backbone {name!r} is {shown(factory)}; it must be a function of num_classes")
    fault = _fault_of_own(name, factory)
    if fault is not None:
        raise UserError(
            f"backbone {name!r} cannot be used: it would be called with the number of classes first, but {fault}"
        )
    checked: Callable[..., nn.Module] = factory
    return checked


def _fault_of_own(name: str, factory: Callable[..., Any]) -> str | None:
    """Why a function takes no number of classes first, as far as can be told without calling it."""
    if name.partition(".")[0].partition(":")[0] in sys.stdlib_module_names:
        return "it belongs to Python itself"
    try:
        first = next(iter(inspect.signature(factory).parameters.values()), None)
    except (TypeError, ValueError):  # something built in, which has no signature
        return "Python cannot tell what it takes"
    if first is None or first.kind not in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD):
        return "it takes no positional argument"
    unknown = inspect.Parameter.empty
    if first.annotation is not unknown and "int" not in str(first.annotation):
        return f"its first parameter is {first.name!r} of another type, {inspect.formatannotation(first.annotation)}"
    if first.annotation is unknown and first.default is not unknown and not isinstance(first.default, int):
        return f"its first parameter is {first.name!r}, by default {shown(first.default)}"
    return None


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
        name: one of our names, a timm name, `torchvision/<name>`, or `package.module:function`.
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
