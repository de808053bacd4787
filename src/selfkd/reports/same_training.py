"""Whether recipes train alike: on the same data, with the same optimiser and schedule, and for as long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from selfkd.errors import RecipeError, few, shown
from selfkd.recipes.recipe import Recipe, is_of_machine
from selfkd.recipes.values import written

__all__ = ["TrainingDifference", "check_same_training", "training_differences"]

_SECTIONS = ("data", "optimizer", "schedule")
_OPTIONS = (
    "loader.batch_size",
    "trainer.epochs",
    "trainer.precision",
    "trainer.best_after_epoch",
    "trainer.evaluate_every",
    "trainer.freeze",
    "trainer.freeze_epochs",
)


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

    These are the data set, the optimiser and the schedule with their options, the size of a batch, the number of
    epochs, the precision, which epochs are evaluated and may be the best, and what is frozen for how long. Options of
    the machine do not count. Network, method, supervision, augmentation and regularisation are what a comparison
    compares.

    Args:
        recipes: at least one.
    """
    first, *others = recipes
    before = _options(first)
    found = []
    for other in others:
        after = _options(other)
        changed_parts = {section for section in _SECTIONS if before[section] != after[section]}
        found += [
            TrainingDifference(key, first.name, before.get(key), other.name, after.get(key))
            for key in dict.fromkeys((*before, *after))
            if before.get(key) != after.get(key) and (key in changed_parts or _section(key) not in changed_parts)
        ]
    return found


def check_same_training(recipes: Sequence[Recipe]) -> None:
    """Refuse to compare recipes that do not train alike.

    Raises: RecipeError: naming the options, the recipes and the values, and how to make them equal.
    """
    differences = training_differences(recipes)
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


def _options(recipe: Recipe) -> dict[str, Any]:
    return {
        key: value
        for key, value in recipe.flat().items()
        if not is_of_machine(key) and (_section(key) in _SECTIONS or key in _OPTIONS)
    }


def _section(key: str) -> str:
    return key.partition(".")[0]
