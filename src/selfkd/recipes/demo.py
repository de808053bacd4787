"""The demo that `selfkd train` runs without a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from selfkd.errors import RecipeError
from selfkd.recipes.recipe import Recipe
from selfkd.recipes.several import resolve_several

__all__ = ["DEMO_RECIPES", "DEMO_SEEDS", "demo_recipes"]

DEMO_RECIPES = ("demo/digits/resnet18/plain", "demo/digits/resnet18/dtskd")
DEMO_SEEDS = (0, 1, 2)


def demo_recipes(overrides: Mapping[str, Any], seeds: int | Sequence[int] | None = None) -> list[Recipe]:
    """Every recipe of the demo with every seed.

    Args:
        overrides: flat keys that replace those of each recipe.
        seeds: as for `resolve_several`; by default the demo's, or those of the overrides.

    Raises:
        RecipeError: if an override sets `name` or `method`, which differ between the recipes.
        UserError: as `resolve_several`.
    """
    fixed = sorted({"name", "method"} & set(overrides))
    if fixed:
        raise RecipeError(f"{fixed[0]}= needs a recipe; the demo without a recipe compares several methods")
    return resolve_several(DEMO_RECIPES, overrides, DEMO_SEEDS if seeds is None and "seed" not in overrides else seeds)
