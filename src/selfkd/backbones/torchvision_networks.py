"""torchvision's classification networks by their torchvision names, with stages, which torchvision does not name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import nn
from torchvision.models import get_model, get_model_weights

from selfkd.backbones.pretrained import unreachable_weights
from selfkd.backbones.torchvision_stages import TORCHVISION_STAGES
from selfkd.errors import BackboneError

__all__ = ["published_cfg", "torchvision_network"]

# Auxiliary classifiers, which torchvision's own training uses and the methods here do not.
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
_WITHOUT_AUXILIARY = {"aux_logits": False, "init_weights": True, "transform_input": False}
_ALWAYS: Mapping[str, Mapping[str, Any]] = {"googlenet": _WITHOUT_AUXILIARY, "inception_v3": _WITHOUT_AUXILIARY}
# These networks, when pretrained in torchvision, change ImageNet's normalisation into this one themselves.
_HALVES = (0.5, 0.5, 0.5)
_OLD_DENSENET = r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)"  # former names, which the published weights have


def torchvision_network(
    name: str,
    num_classes: int,
    *,
    pretrained: bool = False,
    dropout: float | None = None,
    img_size: int | None = None,
) -> nn.Module:
    """A classification network of torchvision with a new classifier.

    It has two further attributes, which `selfkd.stage` reads: `stages` (see `StageModules`), and `pretrained_cfg` with
    the input size and the normalisation of torchvision's weights, in the form of timm's networks.

    Args:
        name: a name of `torchvision.models.list_models(torchvision.models)`.
        num_classes: K.
        pretrained: start from torchvision's published weights, which torchvision downloads; from the best
            if there are several. With 1,000 classes the classifier starts from them, too.
        dropout: dropout rate before the classifier, for networks that have dropout; None for their own default.
        img_size: side of the images in pixels, for networks that are built for one size (maxvit_t); None for their
            default.
    Raises: BackboneError: if the network has no such option, or its weights cannot be loaded.
    """
    options = dict(_ALWAYS.get(name, {}))
    if dropout is not None:
        options["dropout"] = dropout
    if img_size is not None:
        options["input_size"] = (img_size, img_size)
    try:
        network: Any = get_model(name, num_classes=num_classes, **options)
    except (TypeError, ValueError) as error:
        raise BackboneError(
            f"torchvision network {name!r} cannot be built with {options or 'these options'}: {error}"
        ) from error
    if pretrained:
        _load_published(network, name, num_classes)
    network.stages = TORCHVISION_STAGES[name]
    network.pretrained_cfg = published_cfg(name)
    assert isinstance(network, nn.Module)
    return network


def _load_published(network: nn.Module, name: str, num_classes: int) -> None:
    try:
        weights = get_model_weights(name).DEFAULT.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        network_name, place = f"torchvision network {name!r}", "download.pytorch.org"
        raise BackboneError(unreachable_weights(network_name, place, error)) from error
    # Changed in place: the mapping carries a version, which some networks read.
    for key in list(weights):
        weight = weights.pop(key)
        if not key.startswith(_AUXILIARY):
            weights[re.sub(_OLD_DENSENET, r"\1\2", key)] = weight
    own = network.state_dict()
    fresh = {key for key, weight in own.items() if key in weights and weights[key].shape != weight.shape}
    for key in fresh:
        del weights[key]
    kept = network.load_state_dict(weights, strict=False)
    if kept.unexpected_keys or set(kept.missing_keys) != fresh or any(len(own[key]) != num_classes for key in fresh):
        raise BackboneError(f"the weights of torchvision network {name!r} do not fit the network with these options")


def published_cfg(name: str) -> dict[str, Any]:
    """How torchvision's best weights expect images to be prepared, in the form of timm's `pretrained_cfg`.

    Args:
        name: the network's name in torchvision.
    """
    transform = get_model_weights(name).DEFAULT.transforms()
    (side,), (resized,) = transform.crop_size, transform.resize_size
    return {
        "input_size": (3, side, side),
        "mean": _HALVES if name in _ALWAYS else tuple(transform.mean),
        "std": _HALVES if name in _ALWAYS else tuple(transform.std),
        "interpolation": transform.interpolation.value,
        "crop_pct": side / resized,
        "crop_mode": "center",
    }
