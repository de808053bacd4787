"""Find and read recipes: YAML files, their includes, and the grids of the package."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from selfkd.errors import RecipeError, UnknownNameError, few, shown
from selfkd.given_paths import is_folder
from selfkd.recipes.grid import expand, name_of_heads
from selfkd.recipes.sections import FOLLOWING, override
from selfkd.recipes.yaml_files import Budget, read_mapping

__all__ = ["ENDINGS", "full_name", "is_short_for", "read_recipe", "recipe_names", "recipe_summary"]

ENDINGS = (".yaml", ".yml")

_PARTS = "parts"  # the folder of files that recipes include; these are not recipes themselves
# A grid is the file <protocol>/<data set>.yaml, a single recipe <protocol>/<data set>/<backbone>/<method>.yaml.
_GRID_DEPTH = 2
_NOT_INCLUDED = frozenset({"name", "published"})


def recipe_names() -> list[str]:
    """The names of all recipes of the package, sorted. torch is not imported."""
    return sorted(name for name in _packaged() if not name.startswith(f"{_PARTS}/"))


def full_name(name: str) -> str:
    """The name of the only recipe of the package whose name has these parts in this order.

    So `photos/resnet18/dtskd` is short for `photos/folder/resnet18/dtskd`. torch is not imported.

    Args:
        name: name of a recipe, with all its parts or without some, or path of a YAML file.
    Returns: the name as it is, if it is that of a recipe or a file, or if no recipe fits.
    Raises: RecipeError: if several recipes fit.
    """
    known = recipe_names()
    if name in known or name.endswith(ENDINGS):
        return name
    fitting = [each for each in known if is_short_for(name, each)]
    if len(fitting) > 1:
        raise RecipeError(f"{shown(name)} is short for {len(fitting)} recipes: {few(fitting)}; write more of the name")
    return fitting[0] if fitting else name


def is_short_for(short: str, name: str) -> bool:
    """Whether the parts of a short name are among those of a recipe's name, in the same order."""
    remaining = iter(name.split("/"))
    return all(part in remaining for part in short.split("/"))


def recipe_summary(name: str) -> str:
    """One line: method, data and backbone of the recipe, and the published figure if there is one."""
    flat = read_recipe(name)
    summary = f"{flat.get('method')} on {flat.get('data')}, {flat.get('backbone')}"
    if not (published := flat.get("published")):
        return summary
    heads = published["heads"]
    averaged = f" ({name_of_heads(heads)})" if len(heads) > 1 else ""
    return f"{summary}; published {published['value']}{averaged}: {published['source']}"


def read_recipe(name: str) -> dict[str, Any]:
    """The flat keys of a recipe, merged with its includes. A later include wins over an earlier one, the file over all.

    A file that replaces a part also drops the options of the old part, as the command line does.

    Args:
        name: name of a recipe of the package, or path of a YAML file.
    Raises: UnknownNameError: if there is no such recipe. RecipeError: if it is a folder, or the file is no recipe.
    """
    return _read(name, seen=(), budget=Budget())


def _read(name: str, seen: tuple[str, ...], budget: Budget) -> dict[str, Any]:
    if name in seen:
        raise RecipeError(f"recipes include each other in a circle: {' -> '.join((*seen, name))}")
    budget.take_file(name)
    content = dict(_content(name, budget))
    for key, value in content.items():
        if isinstance(value, dict) and key != "published":
            raise RecipeError(f"{name}: keys are flat; write '{key}.<option>: <value>', not a mapping under {key!r}")
    following = content.get(FOLLOWING, [])
    if not isinstance(following, list) or not all(isinstance(key, str) for key in following):
        raise RecipeError(f"{name}: {FOLLOWING}={shown(following)} is not allowed; {FOLLOWING} must be a list of keys")
    merged: dict[str, Any] = {}
    included = content.pop("include", [])
    for part in included if isinstance(included, list) else [included]:
        if not isinstance(part, str):
            raise RecipeError(f"{name}: include must be the name of a recipe or a list of names, not {shown(included)}")
        # The path of an included file is relative to the file that includes it.
        place = str(Path(name).parent / part) if part.endswith(ENDINGS) else part
        merged = override(merged, _read(place, (*seen, name), budget))
    # The name and the published figure belong to the included recipe alone.
    return override({key: value for key, value in merged.items() if key not in _NOT_INCLUDED}, content)


def _content(name: str, budget: Budget) -> Mapping[str, Any]:
    if name.endswith(ENDINGS):
        return read_mapping(Path(name), budget)
    packaged = _packaged()
    if name not in packaged and is_folder(Path(name)):
        raise RecipeError(
            f"{shown(name)} is a folder, not a recipe; for the images in it write a recipe and data.root={name}: "
            f"selfkd train photos/resnet18/dtskd data.root={name}"
        )
    if name not in packaged:
        raise UnknownNameError("recipe", name, recipe_names(), "'selfkd list recipes' shows all")
    return packaged[name]


@functools.cache
def _packaged() -> Mapping[str, Mapping[str, Any]]:
    """The contents of every recipe and part of the package, by name, before includes are merged."""
    folder = Path(str(resources.files("selfkd.recipes")))
    contents: dict[str, Mapping[str, Any]] = {}
    for file in folder.rglob("*.yaml"):
        place = file.relative_to(folder).with_suffix("")
        name, content = place.as_posix(), read_mapping(file, Budget())
        is_grid = len(place.parts) == _GRID_DEPTH and place.parts[0] != _PARTS
        contents |= expand(name, content) if is_grid else {name: content}
    return contents
