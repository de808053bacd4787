"""What the queue holds: recipes and seeds in their order, as queue.yaml lists them."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from selfkd.backbones import BACKBONES
from selfkd.recipes.files import recipe_names
from selfkd.recipes.reader import resolve
from selfkd.recipes.recipe import Recipe

QUEUE = Path(__file__).resolve().parent / "queue.yaml"
CHECKPOINT_EVERY = 10
"""Epochs; writing a checkpoint takes a good part of the time of an epoch on a fast GPU."""
TINY = {"trainer.checkpoint_every": 2, "trainer.epochs": 3, "loader.batch_size": 200}
TINY_WIDTHS = {"shufflenetv1_cifar": 6}  # a multiple of its groups
TINY_WIDTH = 8


@dataclass(frozen=True)
class Item:
    """One training: a recipe of the package and a seed."""

    recipe: str
    seed: int

    def __str__(self) -> str:
        return f"{self.recipe} seed {self.seed}"


def read_queue(file: Path = QUEUE) -> tuple[list[Item], list[str]]:
    """The items in their order, each once, and the names and patterns that no recipe has."""
    known = recipe_names()
    items: dict[Item, None] = {}
    missing: dict[str, None] = {}
    for stage in yaml.safe_load(file.read_text(encoding="utf-8")):
        matches = {pattern: fnmatch.filter(known, pattern) for pattern in stage["recipes"]}
        missing |= dict.fromkeys(pattern for pattern, names in matches.items() if not names)
        names = [name for found in matches.values() for name in found]
        items |= dict.fromkeys(Item(name, seed) for seed in stage["seeds"] for name in names)
    return list(items), list(missing)


@dataclass(frozen=True)
class Place:
    """Where and how items are trained here.

    Args:
        data_root: folder of the data.
        tiny: whether it is a trial, at a size that trains in seconds.
        compiled: the option `trainer.compile`.
    """

    data_root: str
    tiny: bool = False
    compiled: str = "false"

    @property
    def mode(self) -> str:
        """The mode of torch.compile, or "false"."""
        return "default" if self.compiled == "true" else self.compiled


def run_name(item: Item, tiny: bool) -> str:
    """The run's name, which is its recipe's; a trial has one of its own, so that it is never taken for the recipe's."""
    return f"tiny/{item.recipe}" if tiny else item.recipe


def overrides_of(item: Item, place: Place) -> dict[str, Any]:
    """What is set beside the recipe."""
    overrides: dict[str, Any] = {
        "data.root": place.data_root,
        "trainer.compile": place.compiled,
        "trainer.checkpoint_every": CHECKPOINT_EVERY,
        "seed": item.seed,
    }
    if not place.tiny:
        return overrides
    backbone = resolve(item.recipe).parts["backbone"]
    if backbone in BACKBONES:
        overrides["backbone.width"] = TINY_WIDTHS.get(backbone, TINY_WIDTH)
    return {**overrides, **TINY, "name": run_name(item, place.tiny)}


def recipe_of(item: Item, place: Place) -> Recipe:
    """The item resolved: what is trained."""
    return resolve(item.recipe, overrides_of(item, place))
