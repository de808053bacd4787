"""A recipe's network, built to be trained or to take weights that exist."""

from __future__ import annotations

import inspect
import logging
import os
from pathlib import Path
from typing import Any, Literal

from torch import nn

from selfkd.backbones import as_staged
from selfkd.backbones.staged import Staged
from selfkd.errors import OptionError
from selfkd.recipes.recipe import Recipe
from selfkd.training.memory import is_out_of_memory

__all__ = ["build_network", "plain_network", "staged_at"]

# Of files in which frameworks keep weights. A text without one and without a folder is a name, not a file.
_WEIGHTS_SUFFIXES = frozenset({".bin", ".ckpt", ".h5", ".npz", ".pkl", ".pt", ".pth", ".safetensors", ".tar"})

_log = logging.getLogger("selfkd")


def build_network(
    recipe: Recipe, num_classes: int, fresh: bool, section: Literal["backbone", "peer"] = "backbone"
) -> Any:
    """What the recipe's backbone or its peer gives: a network or, of somebody's own, perhaps a `Staged`.

    Args:
        recipe: whose network is built.
        num_classes: K.
        fresh: begin from the weights that the recipe names. Otherwise others follow, which are loaded strictly:
            pretrained ones are not fetched, and a file to begin from may be gone.
        section: that chooses the network.
    """
    changed = {} if fresh else _without_first_weights(recipe, section)
    return recipe.build(section, num_classes, **changed)


def plain_network(recipe: Recipe, num_classes: int) -> nn.Module:
    """The recipe's network, untouched by any method, to be given weights; none are fetched."""
    network = build_network(recipe, num_classes, fresh=False)
    plain: nn.Module = network.network if isinstance(network, Staged) else network
    return plain


def staged_at(network: Any, input_size: tuple[int, int, int]) -> Staged:
    """A network staged for images of one size, which it sees one of here.

    Args:
        network: what a factory of networks gave.
        input_size: (channels, height, width) of an image.
    Raises:
        OptionError: if there is too little memory for one image.
        BackboneError: if it is no network, or cannot be staged.
    """
    try:
        return as_staged(network, input_size)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        side = input_size[-1]
        allowed = f"smaller: one image of {side}x{side} pixels needs more memory in this network than there is"
        raise OptionError("data.image_size", side, allowed) from error


def _without_first_weights(recipe: Recipe, section: str) -> dict[str, Any]:
    """The options of a network that change where its first weights are not wanted."""
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
    path = Path(value)
    named = os.sep in str(value) or path.suffix.lower() in _WEIGHTS_SUFFIXES
    return named and not os.path.exists(os.path.expanduser(value))  # noqa: PTH110, PTH111 (no name makes them fail)
