"""The shortest names that tell recipes apart."""

from __future__ import annotations

from collections.abc import Sequence

from selfkd.recipes.files import recipe_names
from selfkd.recipes.recipe import Recipe
from selfkd.reports.same_training import compared_options

__all__ = ["short_names", "without_overrides"]

_OVERRIDES = "+"
_OF_METHOD = "method."


def short_names(recipes: Sequence[Recipe]) -> tuple[str, list[str]]:
    """The shortest kind of name that differs between all recipes and hides no difference between them.

    Args:
        recipes: no two have the same name.
    Returns: what the names are, "method" or "recipe", and one name for each recipe. The method is enough only if its
        options are those of the package's recipes, and data, network, augmentation, regularisation and supervision are
        the same for all. Overrides that all recipes have are left out.
    """
    data = {recipe.parts["data"] for recipe in recipes}
    compared = compared_options(recipes)
    common = set[str].intersection(*(set(_overrides(recipe)) for recipe in recipes))

    def with_overrides(name: str, recipe: Recipe) -> str:
        return _OVERRIDES.join([name, *(each for each in _overrides(recipe) if each not in common)])

    methods = [recipe.parts["method"] for recipe in recipes]
    kinds = [("recipe", [with_overrides(without_overrides(recipe), recipe) for recipe in recipes])]
    if len(data) == 1 and not any(key.startswith("backbone") for key in compared):
        kinds.insert(0, ("recipe", [with_overrides(_last_part(recipe), recipe) for recipe in recipes]))
    if len(data) == 1 and not compared and all(map(_has_packaged_method, recipes)):
        kinds.insert(0, ("method", methods))
    for kind, names in kinds:
        if len(set(names)) == len(names):
            return kind, names
    return "recipe", [recipe.name for recipe in recipes]


def _has_packaged_method(recipe: Recipe) -> bool:
    """Whether the options of the recipe's method are those of a recipe of the package, or the method's defaults."""
    return without_overrides(recipe) in recipe_names() and not any(
        each.startswith(_OF_METHOD) for each in _overrides(recipe)
    )


def _overrides(recipe: Recipe) -> list[str]:
    """The overrides that the recipe's name lists, such as "trainer.epochs=15"."""
    return recipe.name.split(_OVERRIDES)[1:]


def without_overrides(recipe: Recipe) -> str:
    """A recipe's name without the overrides that it lists."""
    return recipe.name.partition(_OVERRIDES)[0]


def _last_part(recipe: Recipe) -> str:
    return without_overrides(recipe).rpartition("/")[2]
