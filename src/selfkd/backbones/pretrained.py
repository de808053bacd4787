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
    from timm.data import resolve_data_config

    published = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    if published is None:
        return None
    config = resolve_data_config(pretrained_cfg=published.to_dict())
    return Preprocessing(
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=config["interpolation"],
        side=config["input_size"][-1],
        crop_fraction=config["crop_pct"],
    )
