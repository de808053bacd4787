"""`selfkd list methods|backbones|recipes|datasets`"""

from __future__ import annotations

import argparse
from typing import Any

from selfkd.json_text import to_json

__all__ = ["add_parser"]

_KINDS = ("methods", "backbones", "recipes", "datasets")


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "list",
        help="list methods, backbones, recipes or data sets",
        description="Print one line for each.",
    )
    parser.add_argument("kind", choices=_KINDS, help="kind of names")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(execute=_execute)


def _execute(parsed: argparse.Namespace) -> None:
    entries = _entries(parsed.kind)
    if parsed.json:
        print(to_json(entries))
        return
    width = max(map(len, entries))
    for name, summary in entries.items():
        print(f"{name:<{width}}  {summary}".rstrip())
    if parsed.kind == "backbones":
        print(
            "\nYou can also use every name of timm.list_models(), torchvision's networks as 'torchvision/resnet18', "
            "and your own as 'package.module:function'."
        )
    if parsed.kind == "methods":
        print("\nYou can also use your own as 'package.module:Class'.")


def _entries(kind: str) -> dict[str, str]:
    from selfkd.backbones import BACKBONES
    from selfkd.data import DATASETS
    from selfkd.methods import METHODS
    from selfkd.recipes.files import recipe_names, recipe_summary

    if kind == "recipes":
        return {name: recipe_summary(name) for name in recipe_names()}
    catalogue = {"methods": METHODS, "backbones": BACKBONES, "datasets": DATASETS}[kind]
    return {name: entry.summary for name, entry in catalogue.items()}
