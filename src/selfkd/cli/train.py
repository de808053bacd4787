"""`selfkd train [RECIPE] [key=value ...]`"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

from selfkd.cli.path_arguments import path
from selfkd.json_text import to_json
from selfkd.terminal import printable

__all__ = ["add_parser"]

_EPILOG = """\
Parts and options are set with key=value, for example:

  data=folder data.root=FOLDER data.image_size=32   your own images, a folder for each class
  backbone=resnet18 method=ps_kd                    another network, another method
  supervision=historical                            labels mixed with each head's own last prediction
  optimizer=adamw optimizer.lr=0.001                another optimiser; also schedule=cosine
  trainer.epochs=15 seed=1 name=my-run              a shorter run, another seed, its folder's name
  trainer.loggers=[csv,tensorboard]                 curves in TensorBoard beside metrics.csv

RECIPE is a name, or a YAML file of the same keys: 'include: dtskd/cifar100/resnet18/dtskd', 'trainer.epochs: 15'. A
run's own recipe.yaml is one.

Without a recipe, a small network learns scikit-learn's digits from ten images per class, once plainly and once with
DTSKD, from three seeds each, in a few minutes on two cores.

'selfkd list recipes' shows all recipes; 'selfkd train RECIPE --help' every option that can be set with key=value.
The same command continues an interrupted run; a finished run is kept.
"""


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "train",
        help="train a recipe, or the embedded default",
        description="Train a recipe and leave a run folder.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    parser.add_argument("arguments", nargs="*", metavar="RECIPE | key=value", help="a recipe, then overrides")
    parser.add_argument("--runs", type=path, default=Path("runs"), help="folder of all runs (default: runs)")
    parser.add_argument("--overwrite", action="store_true", help="delete what an earlier run left and start afresh")
    parser.add_argument("--no-progress", action="store_true", help="a line per evaluated epoch, no bar")
    parser.add_argument("--trust-imports", action="store_true", help="let a recipe file import somebody's own code")
    parser.add_argument("--json", action="store_true", help="print the scores as JSON")
    parser.add_argument("-h", "--help", action="store_true", help="this help, or with a recipe all its options")
    parser.set_defaults(execute=_execute, parser=parser, takes="arguments")


def _is_recipe_file(argument: str) -> bool:
    """A run's own recipe may lie in a folder whose name holds `key=value`."""
    return argument.endswith((".yaml", ".yml")) and Path(argument).is_file()


def _execute(parsed: argparse.Namespace) -> None:
    from selfkd.errors import RecipeError
    from selfkd.recipes.demo import DEMO_RECIPES, DEMO_SEEDS
    from selfkd.recipes.options_parser import options_help
    from selfkd.recipes.reader import resolve, split_overrides

    named = [argument for argument in parsed.arguments if "=" not in argument or _is_recipe_file(argument)]
    if len(named) > 1:
        raise RecipeError(f"{named[1]!r} is no override; after the recipe {named[0]!r} write key=value")
    overrides = split_overrides([argument for argument in parsed.arguments if argument not in named])
    if parsed.help:
        parsed.parser.print_help()
        if named:
            recipe = resolve(named[0], overrides, parsed.trust_imports)
            print("\n" + options_help(recipe.parts, recipe.flat()))
        return
    if named:
        recipes = [resolve(named[0], overrides, parsed.trust_imports)]
    else:
        fixed = sorted({"name", "method"} & set(overrides))
        if fixed:
            raise RecipeError(f"{fixed[0]}= needs a recipe; without one several methods are compared")
        resolved = [resolve(name, overrides) for name in DEMO_RECIPES]
        seeds = None if "seed" in overrides else DEMO_SEEDS
        recipes = [recipe.with_seed(seed) for recipe in resolved for seed in seeds or (recipe.seed,)]

    from selfkd.reports.seed_table import accuracy, rows_of, table
    from selfkd.runs.train import run
    from selfkd.training.processes import is_main_process

    first = is_main_process()  # of those that torchrun or srun started
    if not first:
        logging.getLogger("selfkd").setLevel(logging.ERROR)
    folders = [
        run(recipe, parsed.runs, parsed.overwrite, not parsed.no_progress, parsed.trust_imports) for recipe in recipes
    ]
    if not first:
        return
    scores = [folder.scores() for folder in folders]
    if parsed.json:
        print(to_json([{"folder": str(f.path), **s} for f, s in zip(folders, scores, strict=True)]))
        return
    print(table(rows_of(scores)))
    tested = accuracy(scores[0], "last", "test")["n"]
    several = len(recipes) > len({recipe.name for recipe in recipes})
    interval = " ± is the 95 % interval of the mean over the runs." if several else ""
    print(f"\nTop-1 accuracy on {tested} test images a run.{interval} Runs:")
    for folder in folders:
        print(f"  {printable(str(folder.path))}")
