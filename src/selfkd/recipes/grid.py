"""Grids: the recipes of one protocol on one data set, written like the tables of a paper.

A grid `<protocol>/<data set>.yaml` has the keys that all its recipes share, those that each backbone and each method
adds, and the published figures in the order of the paper's tables: `published: {source: {method: {backbone: figure}}}`.
A figure is a number, `[mean, standard deviation]`, or a mapping with a figure for each head. A number is that of the
head main; for a method under `averaged: {method: [head, ...]}`, it is the mean of the accuracies of these heads. There
is a recipe `<protocol>/<data set>/<backbone>/<method>` for every figure and for every pair under `unpublished: {method:
[backbone, ...]}`, where `all` stands for all backbones. A grid without figures has only the pairs. The keys of a recipe
are merged in this order; a later one wins:

    include                                the keys of all recipes; a test checks that all training options are there
    backbones.<backbone>                   without the key `with`
    methods.<method>                       for a method `<method>-<ablation>`, too
    backbones.<backbone>.with.<method>     the keys that the method needs on this backbone
    methods.-<ablation>                    the keys that the ablation changes in every method
    backbones.<backbone>.with.-<ablation>  the keys that this ablation needs on this backbone
    methods.<method>-<ablation>            the keys that the ablation changes in this method
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from selfkd.errors import RecipeError
from selfkd.recipes.sections import override

__all__ = ["expand", "name_of_heads"]

_KEYS = {"include", "backbones", "methods", "reduce", "selection", "averaged", "published", "unpublished"}
_OPTIONAL: Mapping[str, Mapping[str, Any]] = {"averaged": {}, "unpublished": {}}
_OF_FIGURES = {"reduce": "", "selection": "", "published": {}}
_EVERYWHERE = "all"
_ABLATION = "-"
_DEPLOYED_HEAD = "main"


def expand(name: str, grid: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The recipes of a grid, by name. Each has the flat keys of a recipe file, with `include`.

    Args:
        name: name of the grid; the name of each recipe begins with it.
        grid: the content of its file.
    Raises: RecipeError: if the tables and the definitions do not match, or two tables give the same figure.
    """
    without_figures = _OF_FIGURES.keys().isdisjoint(grid)
    grid = {**_OPTIONAL, **(_OF_FIGURES if without_figures else {}), **grid}
    if wrong := _KEYS ^ set(grid):
        raise RecipeError(
            f"grid {name} must have the keys {', '.join(sorted(_KEYS))}; missing or unknown: {', '.join(sorted(wrong))}"
        )
    everywhere = list(grid["backbones"])
    grid["unpublished"] = {
        method: everywhere if backbones == _EVERYWHERE else backbones
        for method, backbones in grid["unpublished"].items()
    }
    _check_names(name, grid)
    published: dict[tuple[str, str], dict[str, Any]] = {}
    for method, backbones in grid["unpublished"].items():
        published |= {(backbone, method): {} for backbone in backbones}
    for source, rows in grid["published"].items():
        for method, row in rows.items():
            for backbone, figure in row.items():
                record = published.setdefault((backbone, method), {})
                of_heads = isinstance(figure, Mapping)
                figures = dict(figure) if of_heads else {_DEPLOYED_HEAD: figure}
                averaged = [] if of_heads else grid["averaged"].get(method, [])
                if _DEPLOYED_HEAD in figures:
                    if "value" in record:
                        tables = f"{record['source']} and {source}"
                        raise RecipeError(f"grid {name}: {method} on {backbone} is in {tables}; give it once")
                    value = figures.pop(_DEPLOYED_HEAD)
                    record["value"], *std = value if isinstance(value, list) else [value]
                    record |= {"std": std[0]} if std else {}
                    record |= {"heads": averaged or [_DEPLOYED_HEAD], "source": source}
                    record |= {"reduce": grid["reduce"], "selection": grid["selection"]}
                elif "value" not in record:
                    raise RecipeError(
                        f"grid {name}: {method} on {backbone} has no figure of the head main in {source} or before it"
                    )
                if figures:
                    record["other_heads"] = figures
                    if source != record["source"]:  # one table gives the deployed head, another the branches
                        record["other_heads_source"] = source
    return {
        f"{name}/{backbone}/{method}": _recipe(grid, backbone, method) | ({"published": record} if record else {})
        for (backbone, method), record in published.items()
    }


def name_of_heads(heads: Sequence[str]) -> str:
    """How a table names the heads of a figure: "main", or "mean of main, branch1" if their accuracies are averaged."""
    return heads[0] if len(heads) == 1 else f"mean of {', '.join(heads)}"


def _check_names(name: str, grid: Mapping[str, Any]) -> None:
    """Check that the tables use all names that the grid defines, and no others; this finds typing errors."""
    tables = [*grid["published"].values(), grid["unpublished"]]
    used_methods = {method for table in tables for method in table}
    used_backbones = {backbone for table in tables for row in table.values() for backbone in row}
    base_methods = {method.partition(_ABLATION)[0] for method in used_methods}
    shared = {method for method in grid["methods"] if method.startswith(_ABLATION)}
    of_shared = {method for method in used_methods if _shared_ablation(method) in shared}
    used_shared = {_shared_ablation(method) for method in of_shared}
    for kind, defined, used in (
        ("backbones", set(grid["backbones"]), used_backbones),
        ("methods", set(grid["methods"]) | of_shared, used_methods | base_methods | used_shared),
    ):
        if defined != used:
            raise RecipeError(f"grid {name}: {kind} defined and used differ in {', '.join(sorted(defined ^ used))}")
    named = {method for network in grid["backbones"].values() for method in network.get("with", {})}
    for place, unused in (
        ("a backbone's with", named - base_methods - used_shared),
        ("averaged", grid["averaged"].keys() - used_methods),
    ):
        if unused:
            raise RecipeError(f"grid {name}: {place} names {', '.join(sorted(unused))}, which no table uses")


def _shared_ablation(method: str) -> str:
    """The key of a method's ablation under `methods`, if other methods have the same: `-pretrained`."""
    base, *_ = method.partition(_ABLATION)
    return method.removeprefix(base)


def _recipe(grid: Mapping[str, Any], backbone: str, method: str) -> dict[str, Any]:
    """The keys of one recipe; the module's docstring gives their order."""
    base, is_ablation, _ = method.partition(_ABLATION)
    network = dict(grid["backbones"][backbone])
    combined = network.pop("with", {})
    layers = [{"include": grid["include"]}, network, grid["methods"][base], combined.get(base, {})]
    if is_ablation:
        shared = _shared_ablation(method)
        layers += [grid["methods"].get(shared, {}), combined.get(shared, {}), grid["methods"].get(method, {})]
    return functools.reduce(override, layers)
