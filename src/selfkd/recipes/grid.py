"""Grids: the recipes of one protocol on one data set, written like the tables of a paper.

A grid `<protocol>/<data set>.yaml` says once what all its recipes share, once what each backbone and each method adds,
and every published figure where the paper's table has it: `published: {source: {method: {backbone: figure}}}`, a figure
being a number, `[mean, standard deviation]`, or one for each head. A recipe `<protocol>/<data set>/<backbone>/<method>`
exists for every figure, and for what stands under `unpublished`. Its keys are merged in this order, later over earlier:

    include                            what all recipes share; how they train stands there whole (a test says what)
    backbones.<backbone>               but for its `with`
    methods.<method>                   without its ablation, in `<method>-<ablation>`
    backbones.<backbone>.with.<method> what the method needs on this backbone
    methods.<method>-<ablation>        what the ablation changes
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from selfkd.errors import RecipeError
from selfkd.recipes.sections import override

__all__ = ["expand"]

_KEYS = {"include", "backbones", "methods", "reduce", "selection", "published", "unpublished"}
_ABLATION = "-"
_DEPLOYED = "main"


def expand(name: str, grid: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The recipes of a grid: name to flat keys, `include` among them, as a recipe file has them.

    Args:
        name: of the grid, which begins the name of each recipe.
        grid: the content of its file.
    Raises: RecipeError: if a table names what the grid does not define, or two tables give one figure.
    """
    grid = {"unpublished": {}, **grid}
    if wrong := _KEYS ^ set(grid):
        raise RecipeError(
            f"grid {name} must have the keys {', '.join(sorted(_KEYS))}; wrong: {', '.join(sorted(wrong))}"
        )
    _check_names(name, grid)
    published: dict[tuple[str, str], dict[str, Any]] = {}
    for method, backbones in grid["unpublished"].items():
        published |= {(backbone, method): {} for backbone in backbones}
    for source, rows in grid["published"].items():
        for method, row in rows.items():
            for backbone, figure in row.items():
                record = published.setdefault((backbone, method), {})
                figures = dict(figure) if isinstance(figure, Mapping) else {_DEPLOYED: figure}
                if _DEPLOYED in figures:
                    if "value" in record:
                        tables = f"{record['source']} and {source}"
                        raise RecipeError(f"grid {name}: {method} on {backbone} stands in {tables}; give it once")
                    value = figures.pop(_DEPLOYED)
                    record["value"], *std = value if isinstance(value, list) else [value]
                    record |= {"std": std[0]} if std else {}
                    record |= {"head": _DEPLOYED, "source": source}
                    record |= {"reduce": grid["reduce"], "selection": grid["selection"]}
                elif "value" not in record:
                    raise RecipeError(f"grid {name}: {method} on {backbone} has no figure of main up to {source}")
                if figures:
                    record["other_heads"] = figures
                    if source != record["source"]:  # one table gives the deployed head, another the branches
                        record["other_heads_source"] = source
    return {
        f"{name}/{backbone}/{method}": _cell(grid, backbone, method) | ({"published": record} if record else {})
        for (backbone, method), record in published.items()
    }


def _check_names(name: str, grid: Mapping[str, Any]) -> None:
    """Refuse what no cell uses or defines, which a slip of the pen would leave without effect."""
    rows = [*grid["published"].values(), {m: dict.fromkeys(b) for m, b in grid["unpublished"].items()}]
    used_methods = {method for table in rows for method in table}
    used_backbones = {backbone for table in rows for row in table.values() for backbone in row}
    varied = {method.partition(_ABLATION)[0] for method in used_methods}
    tuned = {method for network in grid["backbones"].values() for method in network.get("with", {})}
    for kind, defined, used in (
        ("backbones", set(grid["backbones"]), used_backbones),
        ("methods", set(grid["methods"]), used_methods | varied),
    ):
        if defined != used:
            raise RecipeError(f"grid {name}: {kind} defined and used differ in {', '.join(sorted(defined ^ used))}")
    if not tuned <= varied:
        raise RecipeError(
            f"grid {name}: a backbone's with names {', '.join(sorted(tuned - varied))}, which no table uses"
        )


def _cell(grid: Mapping[str, Any], backbone: str, method: str) -> dict[str, Any]:
    varied, ablated, _ = method.partition(_ABLATION)
    network = dict(grid["backbones"][backbone])
    needed = network.pop("with", {}).get(varied, {})
    own = grid["methods"][method] if ablated else {}
    return functools.reduce(override, ({"include": grid["include"]}, network, grid["methods"][varied], needed, own))
