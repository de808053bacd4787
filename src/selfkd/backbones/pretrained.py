"""What published weights expect of images."""

from __future__ import annotations

from selfkd.backbones import BACKBONES
from selfkd.contract import Preprocessing

__all__ = ["preprocessing_of"]


def preprocessing_of(name: str) -> Preprocessing | None:
    """How images were prepared when the published weights of a network were made and measured.

    Args:
        name: of the network, as recipes have it.
    Returns: None where no published weights are known: for our own networks and for somebody's.
    Source: timm's `pretrained_cfg` of the weights that `pretrained=True` fetches.
    """
    if name in BACKBONES or ":" in name:
        return None
    import timm

    published = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    if published is None:
        return None
    return Preprocessing(
        mean=tuple(published.mean),
        std=tuple(published.std),
        interpolation=published.interpolation,
        side=published.input_size[-1],
        crop_fraction=published.crop_pct,
    )
