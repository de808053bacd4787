"""Grids: the recipes of one protocol on one data set, written like the tables of a paper.

A grid `<protocol>/<data set>.yaml` says once what all its recipes share, once what each backbone and each method adds,
and every published figure where the paper's table has it (`published: {source: {method: {backbone: figure}}}`, a figure
being a number, or one for each head). A recipe `<protocol>/<data set>/<backbone>/<method>` exists for every figure, and
for what stands under `unpublished`. Its keys are merged in this order, later over earlier:

    include                            what all recipes share
    backbones.<backbone>               but for its `with`
    methods.<method>                   without its ablation, in `<method>-<ablation>`
    backbones.<backbone>.with.<method> what the method needs on this backbone
    methods.<method>-<ablation>        what the ablation changes
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from selfkd.errors import RecipeError

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
                    record["value"] = figures.pop(_DEPLOYED)
                    record |= {"head": _DEPLOYED, "source": source}
                    record |= {"reduce": grid["reduce"], "selection": grid["selection"]}
                if figures:
                    record.setdefault("other_heads", {}).update(figures)
    return {
        f"{name}/{backbone}/{method}": _cell(name, grid, backbone, method) | ({"published": record} if record else {})
        for (backbone, method), record in published.items()
    }


def _cell(name: str, grid: Mapping[str, Any], backbone: str, method: str) -> dict[str, Any]:
    for kind, chosen in (("backbones", backbone), ("methods", method)):
        if chosen not in grid[kind]:
            raise RecipeError(f"grid {name}: {kind} has no {chosen!r}; it has {', '.join(grid[kind])}")
    varied, ablated, _ = method.partition(_ABLATION)
    network = dict(grid["backbones"][backbone])
    needed = network.pop("with", {}).get(varied, {})
    own = grid["methods"][method] if ablated else {}
    return {"include": grid["include"], **network, **grid["methods"][varied], **needed, **own}
