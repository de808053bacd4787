"""Where recipes lie and how they are read: YAML files, includes, and the grids of the package."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from selfkd.errors import RecipeError, UnknownNameError
from selfkd.recipes.grid import expand

__all__ = ["ENDINGS", "read_recipe", "recipe_names", "recipe_summary"]

ENDINGS = (".yaml", ".yml")

_PARTS = "parts"  # what recipes share; no recipes of their own
# A grid is <protocol>/<data set>.yaml, the file of a single recipe <protocol>/<data set>/<backbone>/<method>.yaml.
_GRID_DEPTH = 2
_OWN = frozenset({"name", "published"})


def recipe_names() -> list[str]:
    """All recipes of the package, sorted. Imports nothing heavy."""
    return sorted(name for name in _packaged() if not name.startswith(f"{_PARTS}/"))


def recipe_summary(name: str) -> str:
    """One line: what the recipe trains and, if it has one, the published figure that it reproduces."""
    flat = read_recipe(name)
    published = flat.get("published")
    figure = f"; published {published['value']}: {published['source']}" if published else ""
    return f"{flat.get('method')} on {flat.get('data')}, {flat.get('backbone')}{figure}"


def read_recipe(name: str) -> dict[str, Any]:
    """The flat keys of a recipe, includes merged: later includes win over earlier, the file itself over all.

    Args:
        name: of a recipe of the package, or the path of a YAML file.
    Raises: UnknownNameError: if there is no such recipe. RecipeError: if the file cannot be read as one.
    """
    return _read(name, seen=())


def _read(name: str, seen: tuple[str, ...]) -> dict[str, Any]:
    if name in seen:
        raise RecipeError(f"recipes include each other in a circle: {' -> '.join((*seen, name))}")
    content = dict(_content(name))
    for key, value in content.items():
        if isinstance(value, dict) and key != "published":
            raise RecipeError(f"{name}: keys are flat; write '{key}.<option>: <value>', not a mapping under {key!r}")
    merged: dict[str, Any] = {}
    included = content.pop("include", [])
    for part in included if isinstance(included, list) else [included]:
        if not isinstance(part, str):
            raise RecipeError(f"{name}: include must be the name of a recipe or a list of names, not {included!r}")
        # A file that is included is looked for beside the one that includes it.
        merged |= _read(str(Path(name).parent / part) if part.endswith(ENDINGS) else part, (*seen, name))
    # Name and published figure are the included recipe's own, not of what builds on it.
    return {key: value for key, value in merged.items() if key not in _OWN} | content


def _content(name: str) -> Mapping[str, Any]:
    if name.endswith(ENDINGS):
        return _mapping(Path(name).expanduser())
    packaged = _packaged()
    if name not in packaged:
        raise UnknownNameError("recipe", name, recipe_names(), "'selfkd list recipes' shows all")
    return packaged[name]


@functools.cache
def _packaged() -> Mapping[str, Mapping[str, Any]]:
    """Every recipe and part of the package, by name, as its file or its grid has it."""
    folder = Path(str(resources.files("selfkd.recipes")))
    contents: dict[str, Mapping[str, Any]] = {}
    for file in folder.rglob("*.yaml"):
        place = file.relative_to(folder).with_suffix("")
        name, content = place.as_posix(), _mapping(file)
        is_grid = len(place.parts) == _GRID_DEPTH and place.parts[0] != _PARTS
        contents |= expand(name, content) if is_grid else {name: content}
    return contents


def _mapping(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)  # noqa: S506 (a SafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"{path} cannot be read as a recipe: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise RecipeError(f"{path} must hold one mapping of flat keys, for example 'method: dtskd'")
    return content


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a key that comes twice is an error; plain YAML lets the last win in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {str(key) for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.YAMLError(f"{', '.join(sorted(twice))} comes twice")
        return super().construct_mapping(node, deep)
