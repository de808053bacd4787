"""The shortest names that tell recipes apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from selfkd.recipes.recipe import Recipe

__all__ = ["short_names", "without_overrides"]

_OVERRIDES = "+"


def short_names(recipes: Sequence[Recipe]) -> tuple[str, list[str]]:
    """The shortest kind of name that differs between all recipes.

    Args:
        recipes: no two have the same name.
    Returns: what the names are, "method" or "recipe", and one name for each recipe. The method is enough only if all
        recipes train the same network on the same data.
    """
    networks = {(recipe.parts["data"], recipe.parts["backbone"], str(recipe.options["backbone"])) for recipe in recipes}
    kinds: list[tuple[str, Callable[[Recipe], str]]] = [
        ("method", _method),
        ("recipe", _last_part),
        ("recipe", _last_part_with_overrides),
        ("recipe", without_overrides),
    ]
    for kind, name_of in kinds if len(networks) == 1 else kinds[-1:]:
        names = [name_of(recipe) for recipe in recipes]
        if len(set(names)) == len(names):
            return kind, names
    return "recipe", [recipe.name for recipe in recipes]


def _method(recipe: Recipe) -> str:
    return recipe.parts["method"]


def without_overrides(recipe: Recipe) -> str:
    """A recipe's name without the overrides that it lists."""
    return recipe.name.partition(_OVERRIDES)[0]


def _last_part(recipe: Recipe) -> str:
    return without_overrides(recipe).rpartition("/")[2]


def _last_part_with_overrides(recipe: Recipe) -> str:
    _, plus, overrides = recipe.name.partition(_OVERRIDES)
    return f"{_last_part(recipe)}{plus}{overrides}"
