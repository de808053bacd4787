"""timm's networks by their timm names."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import timm
from torch import nn

from selfkd.backbones.pretrained import unreachable_weights
from selfkd.errors import BackboneError

__all__ = ["timm_network"]

_log = logging.getLogger("selfkd")


def timm_network(
    name: str,
    num_classes: int,
    *,
    pretrained: bool = False,
    in_channels: int = 3,
    drop_rate: float | None = None,
    drop_path_rate: float | None = None,
    img_size: int | None = None,
    zero_init_last: bool | None = None,
) -> nn.Module:
    """A timm network with a new classifier.

    Args:
        name: a name of `timm.list_models()`.
        num_classes: K.
        pretrained: start from timm's published weights, which timm downloads.
        in_channels: channels of the images.
        drop_rate: dropout rate before the classifier; None for the network's own default.
        drop_path_rate: rate of stochastic depth; None for the network's own default.
        img_size: side of the images in pixels, for networks that are built for one size (transformers); None for their
            default.
        zero_init_last: start the last normalisation of every residual block at 0, for networks that have this option
            (ResNets); None for their default, which is true in timm and false in torchvision and the papers.
    Raises: BackboneError: if timm has no such network, it refuses an option, or its weights cannot be loaded.
    """
    given: dict[str, Any] = {"drop_rate": drop_rate, "drop_path_rate": drop_path_rate, "img_size": img_size}
    given["zero_init_last"] = zero_init_last
    options = {key: value for key, value in given.items() if value is not None}
    if pretrained:
        _log.info("the published weights of %s come from the Hugging Face Hub, or from its cache", name)
    try:
        with _quiet_hub():
            network = timm.create_model(name, pretrained, num_classes=num_classes, in_chans=in_channels, **options)
    except OSError as error:  # not a mistake in the options: the file cannot be fetched or read
        raise BackboneError(unreachable_weights(f"timm network {name!r}", "the Hugging Face Hub", error)) from error
    except (TypeError, RuntimeError, ValueError) as error:
        given_options = options or "these options"
        raise BackboneError(f"timm network {name!r} cannot be built with {given_options}: {error}") from error
    assert isinstance(network, nn.Module)
    return network


@contextmanager
def _quiet_hub() -> Iterator[None]:
    """Hide the Hub's warnings about each of its attempts; where all fail, the error says so."""
    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
