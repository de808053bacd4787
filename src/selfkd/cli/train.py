"""`selfkd train [RECIPE] [key=value ...]`"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

from selfkd.cli.arguments import path
from selfkd.json_text import to_json

__all__ = ["add_parser"]

_EPILOG = """\
Set parts and options of the recipe with key=value, for example:

  data=folder data.root=FOLDER data.image_size=32   your own images, one folder for each class
  backbone=resnet18 method=ps_kd                    another network, another method
  supervision=historical                            labels mixed with each head's own last prediction
  optimizer=adamw optimizer.lr=0.001                another optimiser
  schedule=cosine                                   another schedule of the learning rate
  trainer.epochs=15 seed=1 name=my-run              a shorter run, another seed, a name for its folder
  trainer.loggers=[csv,tensorboard]                 write TensorBoard curves beside metrics.csv

RECIPE is the name of a recipe, or a YAML file with the same keys, such as 'include: dtskd/cifar100/resnet18/dtskd' and
'trainer.epochs: 15'. The recipe.yaml in a run's folder is such a file, too.

Without a recipe, a small network learns scikit-learn's digits from ten images per class, once with the method plain and
once with DTSKD, with three seeds each. This takes a few minutes on two cores.

'selfkd list recipes' lists all recipes. 'selfkd train RECIPE --help' explains every option of a recipe.
The same command continues an interrupted run and keeps a finished one.
"""


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "train",
        help="train a recipe; without one, the demo",
        description="Train a recipe and write a run folder.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    parser.add_argument("arguments", nargs="*", metavar="RECIPE | key=value", help="a recipe and changes to it")
    parser.add_argument("--runs", type=path, default=Path("runs"), help="folder of all runs (default: runs)")
    parser.add_argument("--overwrite", action="store_true", help="delete an earlier run and begin anew")
    parser.add_argument(
        "--no-progress", action="store_true", help="print a line for each evaluated epoch instead of a progress bar"
    )
    parser.add_argument(
        "--trust-imports", action="store_true", help="allow a recipe file to import code that is not part of selfkd"
    )
    parser.add_argument("--json", action="store_true", help="print the scores as JSON")
    parser.add_argument(
        "-h", "--help", action="store_true", help="show this help; with a recipe, also show all its options"
    )
    parser.set_defaults(execute=_execute, parser=parser, takes="arguments")


def _execute(parsed: argparse.Namespace) -> None:
    from selfkd.errors import RecipeError
    from selfkd.recipes.demo import demo_recipes
    from selfkd.recipes.key_checks import split_overrides
    from selfkd.recipes.options_help import options_help
    from selfkd.recipes.reader import resolve

    named = [argument for argument in parsed.arguments if "=" not in argument or _is_recipe_file(argument)]
    if len(named) > 1:
        raise RecipeError(f"{named[1]!r} is not an override; after the recipe {named[0]!r} write key=value")
    overrides = split_overrides([argument for argument in parsed.arguments if argument not in named])
    if parsed.help:
        parsed.parser.print_help()
        if named:
            recipe = resolve(named[0], overrides, parsed.trust_imports)
            print("\n" + options_help(recipe.parts, recipe.flat()))
        return
    recipes = [resolve(named[0], overrides, parsed.trust_imports)] if named else demo_recipes(overrides)
    # The imports take seconds, so they follow the checks that do without them.

    from selfkd.reports.seed_table import training_report
    from selfkd.runs.train import run
    from selfkd.training.processes import is_main_process

    reports = is_main_process()  # where torchrun or srun started several, one of them reports
    if not reports:
        logging.getLogger("selfkd").setLevel(logging.ERROR)
    folders = [
        run(recipe, parsed.runs, parsed.overwrite, not parsed.no_progress, parsed.trust_imports) for recipe in recipes
    ]
    if not reports:
        return
    if parsed.json:
        print(to_json([{"folder": str(folder.path), **folder.scores()} for folder in folders]))
    else:
        print(training_report(folders))


def _is_recipe_file(argument: str) -> bool:
    """Whether the argument is a YAML file. A run's own recipe may lie in a folder whose name holds `key=value`."""
    return argument.endswith((".yaml", ".yml")) and Path(argument).is_file()
