"""Networks and the staged view that methods have of them.

A name is one of ours, `torchvision/<name>`, `package.module:function` for a user's own network, or a timm name.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
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
"""Prefix of the names of torchvision's networks. No name of a module or of a timm network begins so."""

# The constructor of a family, then its networks: a summary, and the arguments that tell the networks apart.
_FAMILIES: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "resnet_cifar:resnet_cifar": {
        "resnet18_cifar": ("ResNet-18 with a 3x3 stem, for small images", "basic", (2, 2, 2, 2)),
        "resnet34_cifar": ("ResNet-34 with a 3x3 stem, for small images", "basic", (3, 4, 6, 3)),
        "resnet50_cifar": ("ResNet-50 with a 3x3 stem, for small images", "bottleneck", (3, 4, 6, 3)),
        "resnet101_cifar": ("ResNet-101 with a 3x3 stem, for small images", "bottleneck", (3, 4, 23, 3)),
        "resnet152_cifar": ("ResNet-152 with a 3x3 stem, for small images", "bottleneck", (3, 8, 36, 3)),
    },
    "seresnet_cifar:seresnet_cifar": {
        "seresnet18_cifar": ("SE-ResNet-18 for small images, as in TESKD and DTSKD", (2, 2, 2, 2)),
        "seresnet34_cifar": ("SE-ResNet-34 for small images, as in TESKD and DTSKD", (3, 4, 6, 3)),
    },
    "resnext_cifar:resnext_cifar": {
        "resnext18_cifar": (
            "ResNeXt-18 for small images, without groups, as in TESKD and DTSKD",
            "ungrouped",
            (2, 2, 2, 2),
        ),
        "resnext34_cifar": (
            "ResNeXt-34 for small images, without groups, as in TESKD and DTSKD",
            "ungrouped",
            (3, 4, 6, 3),
        ),
        "resnext18_cifar_grouped": ("ResNeXt-18 for small images, with 32 groups", "grouped", (2, 2, 2, 2)),
        "resnext34_cifar_grouped": ("ResNeXt-34 for small images, with 32 groups", "grouped", (3, 4, 6, 3)),
        "resnext152_cifar_grouped": ("ResNeXt-152 for small images, with 32 groups", "bottleneck", (3, 8, 36, 3)),
    },
    "vgg_cifar:VggCifar": {
        "vgg11_cifar": ("VGG-11 for small images, as in TESKD and DTSKD", "teskd", (1, 1, 2, 2, 2)),
        "vgg16_cifar": ("VGG-16 for small images, as in TESKD and DTSKD", "teskd", (2, 2, 3, 3, 3)),
        "vgg19_cifar": ("VGG-19 for small images, as in TESKD and DTSKD", "teskd", (2, 2, 4, 4, 4)),
        "vgg11_cifar_loth": ("VGG-11 for small images, as in LOTH", "loth", (1, 1, 2, 2, 2)),
        "vgg16_cifar_loth": ("VGG-16 for small images, as in LOTH", "loth", (2, 2, 3, 3, 3)),
        "vgg19_cifar_loth": ("VGG-19 for small images, as in LOTH", "loth", (2, 2, 4, 4, 4)),
    },
    "mobilenetv1_cifar:MobileNetV1Cifar": {
        "mobilenetv1_cifar": ("MobileNetV1 for small images, as in LOTH",),
    },
    "mobilenetv2_cifar:MobileNetV2Cifar": {
        "mobilenetv2_cifar": ("MobileNetV2 for small images, as in LOTH",),
    },
    "shufflenetv1_cifar:ShuffleNetV1Cifar": {
        "shufflenetv1_cifar": ("ShuffleNetV1 with three groups for small images, as in LOTH",),
    },
    "shufflenetv2_cifar:ShuffleNetV2Cifar": {
        "shufflenetv2_cifar": ("ShuffleNetV2 for small images, as in DTSKD", "dtskd"),
        "shufflenetv2_cifar_loth": ("ShuffleNetV2 for small images, as in LOTH", "loth"),
    },
}

BACKBONES = Catalogue(
    "backbone",
    {
        name: Entry(f"{__name__}.{constructor}", summary, tuple(arguments))
        for constructor, networks in _FAMILIES.items()
        for name, (summary, *arguments) in networks.items()
    },
    listing="'selfkd list backbones' shows ours, timm.list_models() timm's; torchvision's are 'torchvision/resnet18'",
    takes_own=True,
)


def network_target(name: str) -> str:
    """`module:attribute` of the function or class whose signature has a network's options. Imports nothing heavy.

    Raises:
        UnknownNameError: if no network has the name; the message gives the nearest of ours, timm's and torchvision's.
        UserError: if the name is that of a function of timm or torchvision, or of a torchvision network that has no
            stage maps; the message gives the name that works.
    """
    if name in BACKBONES:
        return BACKBONES[name].target
    if is_own(name):
        _refuse_library_function(name)
        return name
    if name.startswith(TORCHVISION):
        network = name.removeprefix(TORCHVISION)
        if network in TIMM_NAMES:
            raise UserError(
                f"torchvision's {network} gives no stage maps; timm's network does: backbone={TIMM_NAMES[network]}"
            )
        if network in TORCHVISION_STAGES:
            return f"{__name__}.torchvision_networks:torchvision_network"
    elif is_timm_name(name):
        return f"{__name__}.timm_networks:timm_network"
    names = [*BACKBONES, *(f"{TORCHVISION}{each}" for each in TORCHVISION_STAGES), *timm_names()]
    raise UnknownNameError("backbone", name, names, BACKBONES.listing)


def network_factory(name: str) -> Callable[..., nn.Module]:
    """The function that builds the network of that name: `factory(num_classes, **options)`.

    A user's own function (`package.module:function`) may return a plain network that knows its stages, or a `Staged`.

    Raises:
        UnknownNameError: if no network has the name; the message gives the nearest of ours, timm's and torchvision's.
        UserError: if a user's own function cannot be imported, or does not take the number of classes first.
    """
    target = network_target(name)
    if name in BACKBONES:
        factory: Callable[..., nn.Module] = BACKBONES.load(name)
        return factory
    if is_own(name):
        return _checked_own(name, BACKBONES.load(name))
    return functools.partial(import_target(target), name.removeprefix(TORCHVISION))


def _refuse_library_function(name: str) -> None:
    """Refuse the functions of timm and torchvision: they take other arguments first, and some start a download."""
    module, _, function = name.partition(":")
    library = module.partition(".")[0]
    offered = {"torchvision": f"{TORCHVISION}{function}", "timm": function}.get(library)
    if offered is not None and (function in TORCHVISION_STAGES if library == "torchvision" else is_timm_name(function)):
        raise UserError(
            f"backbone {name!r} does not take the number of classes first; {library}'s network is backbone={offered}"
        )


def _checked_own(name: str, factory: Any) -> Callable[..., nn.Module]:
    """A user's own function or class, once its signature shows that it takes a number of classes first."""
    if not callable(factory):
        raise UserError(f"backbone {name!r} is {shown(factory)}; it must be a function that takes num_classes")
    fault = _signature_fault(name, factory)
    if fault is not None:
        raise UserError(
            f"backbone {name!r} cannot be used: it must take the number of classes as its first argument, but {fault}"
        )
    checked: Callable[..., nn.Module] = factory
    return checked


def _signature_fault(name: str, factory: Callable[..., Any]) -> str | None:
    """Why a function cannot take a number of classes first; None if its signature allows it."""
    if name.partition(".")[0].partition(":")[0] in sys.stdlib_module_names:
        return "it belongs to Python's standard library"
    try:
        first = next(iter(inspect.signature(factory).parameters.values()), None)
    except (TypeError, ValueError):  # some built-in functions have no signature
        return "Python cannot read its parameters"
    if first is None or first.kind not in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD):
        return "it takes no positional argument"
    unknown = inspect.Parameter.empty
    if first.annotation is not unknown and "int" not in str(first.annotation):
        return f"its first parameter {first.name!r} has the type {inspect.formatannotation(first.annotation)}"
    if first.annotation is unknown and first.default is not unknown and not isinstance(first.default, int):
        return f"its first parameter {first.name!r} has the default {shown(first.default)}"
    return None


def as_staged(network: Any, input_size: int | tuple[int, int, int] | None) -> Staged:
    """A staged view of what a network factory returned, which may be one already.

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
        UnknownNameError: if no network has the name.
        OptionError: if the network has no such option.
        BackboneError: if the network cannot be built with these options, or cannot be staged.
    """
    factory = network_factory(name)
    try:
        inspect.signature(factory).bind(num_classes, **options)
    except TypeError as error:
        raise OptionError("backbone options", options, reason=f"{name!r} does not take them: {error}") from error
    if input_size is None and name in BACKBONES:
        input_size = 32
    return as_staged(factory(num_classes, **options), input_size)
