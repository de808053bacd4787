"""`selfkd list methods|backbones|recipes|datasets|runs`"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfkd.cli.arguments import add_verb, path
from selfkd.errors import UserError
from selfkd.json_text import to_json
from selfkd.terminal import printable

if TYPE_CHECKING:
    from selfkd.api import ListedRun

__all__ = ["add_parser"]

_RUNS = "runs"


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "list", "list methods, backbones, recipes, data sets or runs", "Print one line for each.")
    parser.add_argument("kind", choices=[*_PRINT_ALL, _RUNS], help="what to list")
    parser.add_argument(
        "folder", nargs="?", type=path, metavar="FOLDER", help="list the runs in this folder and in those below it"
    )
    parser.add_argument("--runs", type=path, help="the same folder, named as for 'selfkd train' (default: runs)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(execute=_execute)


def _execute(parsed: argparse.Namespace) -> None:
    given = [folder for folder in (parsed.folder, parsed.runs) if folder is not None]
    if parsed.kind == _RUNS:
        if len(given) > 1:
            raise UserError(f"both FOLDER and --runs name a folder of runs, {given[0]} and {given[1]}; give it once")
        _print_runs(given[0] if given else Path(_RUNS), parsed.json)
        return
    if given:
        raise UserError(f"'selfkd list {parsed.kind}' takes no folder; 'selfkd list runs {given[0]}' lists runs")
    _PRINT_ALL[parsed.kind](parsed.json)


def _print_methods(as_json: bool) -> None:
    from selfkd.api import list_methods, missing_methods

    methods = list_methods()
    if as_json:
        print(to_json({name: method.to_json() for name, method in methods.items()}))
        return
    from tabulate import tabulate

    rows = [
        {
            "method": name,
            "group": method.group,
            "parameters": method.parameters_in_words,
            "multiply-adds": method.multiply_adds_in_words,
            "needs": method.needs_in_words,
            "idea": method.summary,
        }
        for name, method in methods.items()
    ]
    print(tabulate(rows, headers="keys", tablefmt="plain", disable_numparse=True))
    print(
        "\nParameters and multiply-adds are those that training adds to a ResNet-18 on 32x32 images. "
        "You can also use your own method as 'package.module:Class'."
    )
    for name, reason in missing_methods().items():
        print(f"{name} is not here: {reason}.")


def _print_backbones(as_json: bool) -> None:
    from selfkd.api import list_backbones

    _print_entries(
        list_backbones(),
        as_json,
        "You can also use every name of timm.list_models(), torchvision's networks as 'torchvision/resnet18', "
        "and your own as 'package.module:function'.",
    )


def _print_recipes(as_json: bool) -> None:
    from selfkd.api import list_recipes

    _print_entries(list_recipes(), as_json)


def _print_datasets(as_json: bool) -> None:
    from selfkd.api import list_datasets

    own = "You can also use a class or function of your own that gives torch Datasets, as 'package.module:Name'."
    _print_entries(list_datasets(), as_json, own)


def _print_entries(entries: Mapping[str, str], as_json: bool, advice: str = "") -> None:
    """Names with one line for each, and what else a user can name."""
    if as_json:
        print(to_json(entries))
        return
    width = max(map(len, entries))
    for name, summary in entries.items():
        print(f"{name:<{width}}  {summary}".rstrip())
    if advice:
        print(f"\n{advice}")


# What is listed as a whole, each with the function that prints it as text, or as JSON if its argument is true.
_PRINT_ALL: Mapping[str, Callable[[bool], None]] = {
    "methods": _print_methods,
    "backbones": _print_backbones,
    "recipes": _print_recipes,
    "datasets": _print_datasets,
}


def _print_runs(folder: Path, as_json: bool) -> None:
    from selfkd.api import list_runs

    runs = list_runs(folder)
    if as_json:
        print(to_json([run.to_json() for run in runs]))
    elif runs:
        from tabulate import tabulate

        print(tabulate([_row(run) for run in runs], headers="keys", tablefmt="plain", disable_numparse=True))
        damaged = [run for run in runs if run.state == "damaged"]
        if damaged:
            print()
        for run in damaged:
            print(printable(f"{run.path} is damaged: {run.problem}"))
    else:
        print(f"there are no runs in {printable(str(folder))}")


def _row(run: ListedRun) -> dict[str, str]:
    states = {
        "finished": "finished",
        "training": f"is being trained, epoch {run.epochs_done} of {run.epochs}",
        "unfinished": f"epoch {run.epochs_done} of {run.epochs}",
        "damaged": "damaged",
    }
    return {
        "recipe": printable(run.recipe or ""),
        "seed": "" if run.seed is None else str(run.seed),
        "top-1 last (%)": _percentage(run.top1_last),
        "best (%)": _percentage(run.top1_best),
        "state": printable(states[run.state]),
        "folder": printable(str(run.path)),
    }


def _percentage(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
