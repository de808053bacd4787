"""Build a recipe's network, with its first weights or without them, and describe it for the data doctor."""

from __future__ import annotations

import inspect
import logging
import os
from pathlib import Path
from typing import Any, Literal

from torch import nn

from selfkd.backbones import as_staged
from selfkd.backbones.staged import Staged
from selfkd.data.doctor.checks import Stem
from selfkd.errors import OptionError
from selfkd.given_paths import expanded, is_folder, is_there
from selfkd.recipes.recipe import Recipe
from selfkd.recipes.weights_preprocessing import preprocessing_of_weights
from selfkd.training.memory import is_out_of_memory

__all__ = ["build_network", "plain_network", "staged_at", "stem_of"]

# Suffixes of files of weights. An option with neither such a suffix nor a folder is a name, not a file.
_WEIGHTS_SUFFIXES = frozenset({".bin", ".ckpt", ".h5", ".npz", ".pkl", ".pt", ".pth", ".safetensors", ".tar"})

_log = logging.getLogger("selfkd")


def build_network(
    recipe: Recipe, num_classes: int, pretrained: bool, section: Literal["backbone", "peer"] = "backbone"
) -> Any:
    """Build the recipe's backbone or its peer: a network or, if it is the user's own, perhaps a `Staged`.

    Args:
        recipe: names the network.
        num_classes: K.
        pretrained: start from the weights that the recipe names. False where a checkpoint is loaded afterwards, which
            is then strict: pretrained weights are not downloaded, and a file of weights may be missing.
        section: "backbone" or "peer".
    Raises: UserError: if there is no such network, or an option is not allowed.
    """
    changed = {} if pretrained else _options_without_weights(recipe, section)
    return recipe.build(section, num_classes, **changed)


def plain_network(recipe: Recipe, num_classes: int) -> nn.Module:
    """Build the recipe's network without any part of a method, ready to load weights. None are downloaded."""
    network = build_network(recipe, num_classes, pretrained=False)
    plain: nn.Module = network.network if isinstance(network, Staged) else network
    return plain


def staged_at(network: Any, input_size: tuple[int, int, int]) -> Staged:
    """Stage a network for images of one size, which runs it on one image.

    Args:
        network: as `build_network` gave it.
        input_size: (channels, height, width) of an image.
    Raises:
        OptionError: if there is too little memory for one image.
        BackboneError: if it is not a network, or cannot be staged.
    """
    try:
        return as_staged(network, input_size)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        side = input_size[-1]
        reason = (
            f"one image of {side}x{side} pixels needs more memory in this network than there is; choose a smaller side"
        )
        raise OptionError("data.image_size", side, reason=reason) from error


def stem_of(recipe: Recipe, backbone: Staged) -> Stem:
    """The first layers and the stages of a recipe's network, which is staged for the size of its images."""
    first = next((module for module in backbone.modules() if isinstance(module, nn.Conv2d)), None)
    return Stem(
        backbone=recipe.parts["backbone"],
        stride=1 if first is None else int(first.stride[0]),
        stage_sides=tuple(height for _, height, _ in backbone.stage_shapes),
        preprocessing=preprocessing_of_weights(recipe),
    )


def _options_without_weights(recipe: Recipe, section: str) -> dict[str, Any]:
    """The options that differ from the recipe's, so that the network is built without its first weights."""
    options = recipe.options[section]
    changed: dict[str, Any] = {"pretrained": False} if options.get("pretrained") else {}
    parameters = inspect.signature(recipe.target(section)).parameters
    for name, value in options.items():
        default = parameters[name].default if name in parameters else inspect.Parameter.empty
        if default is not inspect.Parameter.empty and value != default and _names_a_missing_file(value):
            _log.info("%s.%s=%s does not exist; the run's own weights are used", section, name, value)
            changed[name] = default
    return changed


def _names_a_missing_file(value: object) -> bool:
    if not isinstance(value, str | os.PathLike):
        return False
    is_path = os.sep in str(value) or Path(value).suffix.lower() in _WEIGHTS_SUFFIXES
    file = expanded(value)
    return is_path and not (is_there(file) or is_folder(file))
