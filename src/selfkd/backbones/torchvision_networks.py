"""Classification networks of torchvision by their torchvision names, with the stages that torchvision does not name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import nn
from torchvision.models import get_model, get_model_weights

from selfkd.backbones.torchvision_stages import TORCHVISION_STAGES
from selfkd.errors import BackboneError

__all__ = ["published_cfg", "torchvision_network"]

# What is only there while the network trains in torchvision's own way.
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
_WITHOUT_AUXILIARY = {"aux_logits": False, "init_weights": True, "transform_input": False}
_ALWAYS: Mapping[str, Mapping[str, Any]] = {"googlenet": _WITHOUT_AUXILIARY, "inception_v3": _WITHOUT_AUXILIARY}
# torchvision gives them images normalised as ImageNet's, which they scale to this themselves once they are pretrained.
_HALVES = (0.5, 0.5, 0.5)
_OLD_DENSENET = r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)"  # names that its weights still have


def torchvision_network(
    name: str,
    num_classes: int,
    *,
    pretrained: bool = False,
    dropout: float | None = None,
    img_size: int | None = None,
) -> nn.Module:
    """A classification network of torchvision with a fresh classifier.

    It has two attributes more than torchvision's, which `selfkd.stage` reads: `stages` (see `StageModules`), and
    `pretrained_cfg` with the input size and the normalisation of torchvision's weights, as timm's networks have it.

    Args:
        name: a name of `torchvision.models.list_models(torchvision.models)`.
        num_classes: K.
        pretrained: start from torchvision's published weights, the best of several (downloaded by torchvision); with
            1,000 classes the classifier's too.
        dropout: dropout before the classifier, for networks that have some; None for their own default.
        img_size: side of the images, for networks that fix it when built (maxvit_t); None for their default.
    Raises: BackboneError: if the network has no such option, or its weights cannot be had.
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
    if name.startswith("densenet"):
        # torchvision's applies this function outside its modules; twice it changes nothing.
        network.features.add_module("relu5", nn.ReLU(inplace=True))
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
        raise BackboneError(f"the weights of torchvision network {name!r} cannot be had: {error}") from error
    # In place, since some networks read a version that this mapping carries.
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
    """What torchvision's best weights expect of images, in the form of timm's `pretrained_cfg`.

    Args:
        name: as `torchvision_network` takes it.
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
