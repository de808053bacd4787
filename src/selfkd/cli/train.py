"""`selfkd train [RECIPE] [key=value ...]`"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfkd.cli.arguments import add_training, add_verb, check_all_finished, recipes_and_overrides
from selfkd.errors import RecipeError
from selfkd.given_paths import is_folder
from selfkd.json_text import to_json
from selfkd.option_checks import at_least

if TYPE_CHECKING:
    from selfkd.api import Run, TrainingOutcome

__all__ = ["add_parser"]

_DESCRIPTION = """\
Train a recipe and write a run folder. To train on your own photographs, one folder for each class:

  selfkd train photos/resnet18/dtskd data.root=FOLDER
  selfkd train photos/resnet18/dtskd-pretrained data.root=FOLDER      from pretrained weights, which are downloaded
"""

_EPILOG = """\
Set parts and options of the recipe with key=value, for example:

  data.root=FOLDER                                  where the images are
  data=folder data.image_size=32                    in any recipe: your own images, one folder for each class
  backbone=resnet18 method=ps_kd                    another network, another method
  supervision=historical                            labels mixed with each head's own last prediction
  optimizer=adamw optimizer.lr=0.001                another optimiser
  schedule=cosine                                   another schedule of the learning rate
  trainer.epochs=15 seed=1 name=my-run              a shorter run, another seed, a name for its folder
  trainer.loggers=[csv,tensorboard]                 write TensorBoard curves beside metrics.csv
  seed=0,1,2 method=plain,dtskd                     six runs: both methods, each with three seeds

A run's folder has the name of the recipe and the options that you change. If these are many, it has the most important
ones, the number of the others and a checksum. name=my-run gives it a name of your own: runs/my-run/seed-<n>.

A list with commas trains several runs. 'seed' takes a list, and so does each part that is chosen by name: data,
augmentation, backbone, method, optimizer, schedule and the others. Every combination is trained, each in a process of
its own. A run that fails does not end the others.

RECIPE is the name of a recipe, a quoted pattern of names such as 'demo/digits/resnet18/*', or a YAML file with the same
keys, such as 'include: dtskd/cifar100/resnet18/dtskd' and 'trainer.epochs: 15'. The recipe.yaml in a run's folder is
such a file, too. Parts of a name may be left out if only one recipe fits: photos/resnet18/dtskd is
photos/folder/resnet18/dtskd.

Without a recipe, a small network learns scikit-learn's digits from ten images per class, once with the method plain and
once with DTSKD, with three seeds each. This takes a few minutes on two cores.

'selfkd list recipes' lists all recipes. 'selfkd train RECIPE --help' explains every option of a recipe.
The same command continues an interrupted run and keeps a finished one.
"""


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    parser = add_verb(
        verbs,
        "train",
        "train a recipe; without one, the demo",
        _DESCRIPTION,
        _EPILOG,
        add_help=False,
    )
    parser.add_argument("arguments", nargs="*", metavar="RECIPE | key=value", help="a recipe and changes to it")
    add_training(parser)
    parser.add_argument("--overwrite", action="store_true", help="delete an earlier run and begin anew")
    parser.add_argument(
        "--keep-logits",
        action="store_true",
        help="keep the logits of all test images after the last epoch in the run's folder, as 'selfkd evaluate "
        "--keep-logits' does; several runs that are trained together always keep them",
    )
    parser.add_argument("--json", action="store_true", help="print the scores as JSON")
    parser.add_argument(
        "-h", "--help", action="store_true", help="show this help; with a recipe, also show all its options"
    )
    parser.set_defaults(execute=_execute, parser=parser, takes="arguments")


def _execute(parsed: argparse.Namespace) -> None:
    from selfkd import api

    at_least("jobs", parsed.jobs, 1)
    name, arguments = _recipe_and_overrides(parsed.arguments)
    overrides = api.split_overrides(arguments)
    if parsed.help and name is None:
        parsed.parser.print_help()
        return
    recipes = api.resolve_recipes(name, trust_imports=parsed.trust_imports, **overrides)
    if parsed.help:
        parsed.parser.print_help()
        for recipe in {recipe.name: recipe for recipe in recipes}.values():
            print("\n" + api.recipe_help(recipe))
        return
    options = {
        "runs": parsed.runs,
        "overwrite": parsed.overwrite,
        "show_progress": not parsed.no_progress,
        "trust_imports": parsed.trust_imports,
    }
    trained: list[Run] | list[TrainingOutcome]
    if len(recipes) > 1:
        outcomes = trained = api.train_several(recipes, jobs=parsed.jobs, **options)
        finished = [outcome.run for outcome in outcomes if outcome.error is None]
        unfinished = [outcome.folder.path for outcome in outcomes if outcome.error is not None]
    else:
        if not api.is_main_process():  # where torchrun or srun started several, one of them reports
            logging.getLogger("selfkd").setLevel(logging.ERROR)
        finished = trained = [api.train(recipes[0], keep_logits=parsed.keep_logits, **options)]
        unfinished = []
    if not api.is_main_process():
        return
    if parsed.json:
        print(to_json([{"folder": str(run.path), **run.scores} for run in finished]))
    elif finished:
        # A single run that was to keep no logits is not evaluated a second time.
        options = api.changeable_options(**overrides)
        print(api.compare_runs(trained, evaluate_missing=len(recipes) > 1, **options).to_markdown())
    check_all_finished(unfinished, len(recipes))


def _recipe_and_overrides(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """The recipe, or None for the demo, and the overrides.

    Raises: RecipeError: if there are two recipes.
    """
    named, overrides = recipes_and_overrides(arguments)
    if len(named) > 1:
        recipe, other = named[:2]
        raise RecipeError(f"{other!r} is not an override; after the recipe {recipe!r} write key=value{_advice(other)}")
    return next(iter(named), None), overrides


def _advice(argument: str) -> str:
    """What the user may have meant by a second argument that is no override."""
    from selfkd import api

    if is_folder(Path(argument)):
        return f"; for the images in this folder write data.root={argument}"
    return "; 'selfkd compare' takes several recipes" if api.is_recipe(argument) else ""
