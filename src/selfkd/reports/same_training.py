"""Whether recipes train alike: on the same data, with the same optimiser and schedule, and for as long."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from selfkd.errors import RecipeError, few, shown
from selfkd.recipes.recipe import WITHOUT_EFFECT, Recipe, is_of_machine
from selfkd.recipes.values import written

__all__ = ["TrainingDifference", "check_same_training", "compared_options", "training_differences"]

_ROOT = "root"  # an option of the machine, but other images may lie there
_SECTIONS = ("data", "optimizer", "schedule", "loader", "trainer")
_COMPARED = ("backbone", "augmentation", "regularization", "supervision")


@dataclass(frozen=True)
class TrainingDifference:
    """An option of data or training that two recipes set differently.

    Args:
        option: its flat key.
        recipe: name of the first recipe.
        value: its value there.
        other: name of the second recipe.
        other_value: its value there.
    """

    option: str
    recipe: str
    value: Any
    other: str
    other_value: Any

    def __str__(self) -> str:
        return f"{self.option} is {shown(self.value)} in {self.recipe} and {shown(self.other_value)} in {self.other}"


def training_differences(recipes: Sequence[Recipe]) -> list[TrainingDifference]:
    """The options of data and training in which any recipe differs from the first.

    These are the data set, the optimiser and the schedule with their options, the size of a batch, and the options of
    the trainer, such as the number of epochs, the precision, and which epochs may be the best. Options of the machine
    and those `WITHOUT_EFFECT` do not count. Network, method, supervision, augmentation and regularisation are what a
    comparison compares.

    Args:
        recipes: at least one.
    """
    first, *others = recipes
    before = _options(first)
    found = []
    for other in others:
        after = _options(other)
        changed_parts = {section for section in _SECTIONS if before.get(section) != after.get(section)}
        found += [
            TrainingDifference(key, first.name, before.get(key), other.name, after.get(key))
            for key in dict.fromkeys((*before, *after))
            if before.get(key) != after.get(key) and (key in changed_parts or _section(key) not in changed_parts)
        ]
    return found


def compared_options(recipes: Sequence[Recipe]) -> dict[str, dict[str, Any]]:
    """The options of network, augmentation, regularisation and supervision that are not the same for all recipes.

    Args:
        recipes: at least one.
    Returns: flat key to name of the recipe to value. Of a section whose parts differ, the part alone is there.
    """
    flat = {recipe.name: recipe.flat() for recipe in recipes}
    keys = dict.fromkeys(key for options in flat.values() for key in options if _section(key) in _COMPARED)
    values = {key: {name: options.get(key) for name, options in flat.items()} for key in keys}
    differing = {
        key: each for key, each in values.items() if any(value != each[recipes[0].name] for value in each.values())
    }
    return {key: each for key, each in differing.items() if key == _section(key) or _section(key) not in differing}


def check_same_training(recipes: Sequence[Recipe], will_train: bool) -> None:
    """Refuse to compare recipes that do not train alike.

    Args:
        recipes: at least one.
        will_train: whether the recipes will be trained. Then they must also read their data from the same place. Of
            finished runs, the data itself is compared.
    Raises: RecipeError: naming the options, the recipes and the values, and how to make them equal.
    """
    differences = training_differences(recipes) + (_root_differences(recipes) if will_train else [])
    if not differences:
        return
    other = differences[0].other
    said = [
        f"{each.option} is {shown(each.value)} and {shown(each.other_value)}"
        for each in differences
        if each.other == other
    ]
    others = [each for each in dict.fromkeys(each.other for each in differences) if each != other]
    overrides = dict.fromkeys(f"{each.option}={written(each.value)}" for each in differences)
    raise RecipeError(
        f"{recipes[0].name} and {other} train differently: {few(said)}"
        + (f"; the same is true of {few(others)}" if others else "")
        + f"\nadd {' '.join(overrides)} to train all alike, or --allow-differences to compare them as they are"
    )


def _root_differences(recipes: Sequence[Recipe]) -> list[TrainingDifference]:
    """The recipes that read the data set of the first one from another place."""
    first, *others = recipes
    root = first.options["data"].get(_ROOT)
    return [
        TrainingDifference(f"data.{_ROOT}", first.name, root, other.name, other_root)
        for other in others
        if other.parts["data"] == first.parts["data"]
        and _real_path(other_root := other.options["data"].get(_ROOT)) != _real_path(root)
    ]


def _real_path(root: str | None) -> str | None:
    return None if root is None else os.path.realpath(root)


def _options(recipe: Recipe) -> dict[str, Any]:
    return {
        key: value
        for key, value in recipe.flat().items()
        if _section(key) in _SECTIONS and not is_of_machine(key) and key not in WITHOUT_EFFECT
    }


def _section(key: str) -> str:
    return key.partition(".")[0]
