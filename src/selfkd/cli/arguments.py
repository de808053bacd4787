"""The arguments that several verbs have in common."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from selfkd.errors import UnfinishedRunsError, few, shown

__all__ = [
    "add_checkpoint",
    "add_output",
    "add_run_verb",
    "add_training",
    "add_verb",
    "check_all_finished",
    "not_empty",
    "path",
    "recipes_and_overrides",
]


def add_verb(
    verbs: Any, name: str, summary: str, description: str, epilog: str = "", add_help: bool = True
) -> argparse.ArgumentParser:
    """Add a verb.

    Args:
        verbs: the command's verbs.
        name: name of the verb.
        summary: one line for the list of verbs.
        description: a sentence or two, which begin the verb's help.
        epilog: the end of the verb's help.
        add_help: add --help.
    """
    parser: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=summary,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=add_help,
    )
    return parser


def add_run_verb(verbs: Any, name: str, summary: str, description: str, epilog: str = "") -> argparse.ArgumentParser:
    """Add a verb that uses a run, with the arguments RUN and --trust-imports. The arguments are those of `add_verb`."""
    description = f"{description}\nIf the run is not finished, its newest undamaged checkpoint is used."
    parser = add_verb(verbs, name, summary, description, epilog)
    parser.add_argument("run", type=path, metavar="RUN", help="folder of a run")
    parser.add_argument(
        "--trust-imports", action="store_true", help="allow the run's recipe to import code that is not part of selfkd"
    )
    return parser


def add_training(parser: argparse.ArgumentParser) -> None:
    """Add --runs, --jobs, --no-progress and --trust-imports, for a verb that trains recipes."""
    parser.add_argument("--runs", type=path, default=Path("runs"), help="folder of all runs (default: runs)")
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="train N runs beside each other; they share the cores (default: 1)",
    )
    parser.add_argument("--no-progress", action="store_true", help="print lines instead of a progress bar")
    parser.add_argument(
        "--trust-imports", action="store_true", help="allow recipe files to import code that is not part of selfkd"
    )


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Add --checkpoint."""
    parser.add_argument(
        "--checkpoint",
        choices=("last", "best"),
        default="last",
        help="use the weights of the last or of the best epoch (default: last)",
    )


def add_output(parser: argparse.ArgumentParser, meaning: str) -> None:
    """Add --output and --overwrite.

    Args:
        parser: of the verb.
        meaning: the help of --output.
    """
    parser.add_argument("--output", type=path, metavar="FILE", help=meaning)
    parser.add_argument("--overwrite", action="store_true", help="replace the file of --output if it exists")


def recipes_and_overrides(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate the recipes from the overrides `key=value`, which come in any order.

    A YAML file is a recipe even if its path holds `=`, as that of a run's own recipe may.
    """
    recipes = [argument for argument in arguments if "=" not in argument or _is_recipe_file(argument)]
    return recipes, [argument for argument in arguments if argument not in recipes]


def _is_recipe_file(argument: str) -> bool:
    return argument.endswith((".yaml", ".yml")) and Path(argument).is_file()


def not_empty(text: str) -> str:
    """Return the text, unless it is empty: an empty path would be the current folder.

    Raises: argparse.ArgumentTypeError: to which argparse adds the argument's name.
    """
    if not text:
        raise argparse.ArgumentTypeError("must not be empty ('.' is the current folder)")
    return text


def path(text: str) -> Path:
    """Return the text as a path, with `~` or `~name` at its beginning replaced by that user's home.

    Raises: argparse.ArgumentTypeError: if it is empty, or there is no such user.
    """
    try:
        return Path(not_empty(text)).expanduser()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(
            f"{shown(text)} begins with '~' and a name that no user of this machine has; write './~...' for a folder "
            "of that name"
        ) from error


def check_all_finished(unfinished: Sequence[Path], asked: int) -> None:
    """End a verb that trains with an error if runs are not finished.

    Args:
        unfinished: the folders of these runs.
        asked: number of runs that were to be trained.
    Raises: UnfinishedRunsError: naming some of them.
    """
    if unfinished:
        folders = few([str(folder) for folder in unfinished])
        raise UnfinishedRunsError(f"{len(unfinished)} of {asked} runs are not finished: {folders}")
