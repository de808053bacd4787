"""How published weights expect images to be prepared, and how many classes they have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from selfkd.backbones import BACKBONES, TORCHVISION
from selfkd.catalogue import is_own
from selfkd.contract import Preprocessing
from selfkd.errors import first_line

__all__ = ["preprocessing_of", "published_classes", "unreachable_weights"]


def preprocessing_of(name: str) -> Preprocessing | None:
    """How images were prepared when the published weights of a network were trained and measured.

    Args:
        name: the network's name in recipes.
    Returns: None if no published weights are known: for our own networks and for a user's own.
    Source: of the weights that `pretrained=True` fetches, timm's `pretrained_cfg` or torchvision's `transforms`.
    """
    published = None if name in BACKBONES or is_own(name) else _published(name)
    if published is None:
        return None
    return Preprocessing(
        mean=tuple(published["mean"]),
        std=tuple(published["std"]),
        interpolation=published["interpolation"],
        side=published["input_size"][-1],
        crop_fraction=published["crop_pct"],
        crop_mode=published["crop_mode"],
    )


def published_classes(name: str) -> int | None:
    """The number of classes of the published weights of a timm network.

    Args:
        name: the network's name in recipes.
    Returns: None if no published weights are known, and for networks that are not timm's.
    """
    if name in BACKBONES or is_own(name) or name.startswith(TORCHVISION):
        return None
    published = _published(name)
    return None if published is None else int(published["num_classes"])


def unreachable_weights(network: str, place: str, error: Exception) -> str:
    """The message for published weights that cannot be fetched, with what to do.

    Args:
        network: the network, in words.
        place: where its weights lie.
        error: what the library raised.
    """
    return (
        f"the published weights of {network} cannot be fetched from {place} ({first_line(error)}); check the "
        "connection and give the command again, or fetch a file of weights on another machine and set "
        "backbone.pretrained=false backbone.weights=FILE"
    )


def _published(name: str) -> Mapping[str, Any] | None:
    if name.startswith(TORCHVISION):
        from selfkd.backbones.torchvision_networks import published_cfg

        return published_cfg(name.removeprefix(TORCHVISION))
    import timm

    published = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    return None if published is None else asdict(published)
