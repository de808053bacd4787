"""`selfkd compare RECIPE ... [key=value ...] --seeds N`"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from selfkd.cli.arguments import (
    add_output,
    add_training,
    add_verb,
    check_all_finished,
    not_empty,
    recipes_and_overrides,
)
from selfkd.cli.output import opened
from selfkd.errors import OptionError

if TYPE_CHECKING:
    from selfkd.api import Comparison

__all__ = ["add_parser"]

_FORMS = ("markdown", "csv", "json", "latex")

_EPILOG = """\
RECIPE is the name of a recipe, a quoted pattern of names, or a YAML file. key=value changes every recipe. For example:

  selfkd compare 'demo/digits/resnet18/*' --seeds 3
  selfkd compare 'dtskd/cifar100/resnet18/*' data.root=FOLDER --seeds 0,1,5 --jobs 2
  selfkd compare demo/digits/resnet18/plain method=plain,dtskd trainer.epochs=50
  selfkd compare 'demo/digits/resnet18/*' --no-train --format latex --output table.tex

The recipes must train on the same data, with the same optimiser and schedule, for as many epochs.
The same command continues after an interruption and keeps what is finished. docs/compare.md explains the tables.

Exit status: 0 if all runs are in the tables, or with --no-train; 1 if a run failed; 2 if the command is wrong.
"""


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    parser = add_verb(
        verbs,
        "compare",
        "compare recipes over several seeds",
        "Train recipes with the same seeds, and print tables of their accuracy and cost.",
        _EPILOG,
    )
    parser.add_argument(
        "arguments", nargs="*", metavar="RECIPE | key=value", help="recipes, and changes to all of them"
    )
    parser.add_argument(
        "--seeds",
        type=_seeds,
        metavar="N | LIST",
        help="number of seeds, counted from 0, or a list: 3 is the seeds 0, 1 and 2; '3,' is the seed 3 (default: 3)",
    )
    add_training(parser)
    parser.add_argument(
        "--no-train", action="store_true", help="compare the runs that are finished; train and evaluate nothing"
    )
    parser.add_argument(
        "--heads",
        choices=("main", "all"),
        default="main",
        help="show the deployed heads and those with a published figure, or all (default: main)",
    )
    parser.add_argument(
        "--baseline",
        type=not_empty,
        metavar="RECIPE",
        help="compare the others with this one (default: the one with the method plain, or else the first)",
    )
    parser.add_argument(
        "--allow-differences",
        action="store_true",
        help="compare recipes with other data or another training, too; the differences stand below the tables",
    )
    parser.add_argument("--format", choices=_FORMS, default="markdown", help="form of the tables (default: markdown)")
    parser.add_argument("--json", dest="format", action="store_const", const="json", help="the same as --format json")
    add_output(parser, "file to write (default: standard output)")
    parser.set_defaults(execute=_execute, takes="arguments")


def _execute(parsed: argparse.Namespace) -> None:
    from selfkd import api

    names, arguments = recipes_and_overrides(parsed.arguments)
    overrides = api.split_overrides(arguments)
    if parsed.overwrite and parsed.output is None:
        reason = "it replaces the file of --output; give --output, or train anew with 'selfkd train ... --overwrite'"
        raise OptionError("--overwrite", True, reason=reason)
    # A mistake in the recipes shows before the imports, which take seconds.
    api.resolve_recipes(names, trust_imports=parsed.trust_imports, **overrides)
    file = None if parsed.output is None else api.check_output(parsed.output, parsed.overwrite)
    comparison = api.compare(
        names,
        parsed.seeds,
        runs=parsed.runs,
        jobs=parsed.jobs,
        train=not parsed.no_train,
        heads=parsed.heads,
        baseline=parsed.baseline,
        allow_differences=parsed.allow_differences,
        show_progress=not parsed.no_progress,
        trust_imports=parsed.trust_imports,
        **overrides,
    )
    with opened(file) as write:
        write(_written(comparison, parsed.format) + "\n")
    failed = [run.folder for run in comparison.skipped if run.failed]
    check_all_finished(failed, len(failed) + len(comparison.folders))


def _written(comparison: Comparison, form: str) -> str:
    forms = {
        "markdown": comparison.to_markdown,
        "csv": comparison.to_csv,
        "json": comparison.to_json,
        "latex": comparison.to_latex,
    }
    return forms[form]()


def _seeds(text: str) -> int | list[int]:
    """A number of seeds, or a list of seeds.

    Raises: argparse.ArgumentTypeError: to which argparse adds the option's name.
    """
    try:
        numbers = [int(number) for number in text.removesuffix(",").split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError("must be a number of seeds, or seeds with commas: 3, or 0,1,5") from error
    return numbers if "," in text else numbers[0]
