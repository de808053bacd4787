"""What Python users call. Every verb of the command calls the same functions.

An option of a recipe is a keyword argument. Its first underscore after the name of a section stands for a dot:
`trainer_epochs=30` is `trainer.epochs=30` on the command line. `**{"trainer.epochs": 30}` is the same.

Heavy imports lie inside the functions, so that the command's help and lists stay quick.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from selfkd.argument_names import naming_arguments
from selfkd.catalogue import is_own
from selfkd.errors import RecipeError, UserError, shown
from selfkd.given_paths import check_run, data_place, expanded
from selfkd.terminal import log_shown

if TYPE_CHECKING:
    from torch.utils.data import Dataset

    from selfkd.data.doctor.findings import Report
    from selfkd.evaluation.evaluation import Evaluation

    # The command imports these names from here.
    from selfkd.methods.listing import ListedMethod as ListedMethod
    from selfkd.recipes.recipe import Recipe as Recipe
    from selfkd.reports.comparison import Comparison as Comparison
    from selfkd.runs.evaluate import LabelledImages
    from selfkd.runs.listing import ListedRun as ListedRun
    from selfkd.runs.prediction import Prediction as Prediction
    from selfkd.runs.run import Run as Run
    from selfkd.runs.several import TrainingOutcome as TrainingOutcome

    _OneRecipe = str | os.PathLike[str] | Recipe
    _Recipes = _OneRecipe | Iterable[_OneRecipe]

__all__ = [
    "changeable_options",
    "check",
    "check_output",
    "compare",
    "compare_runs",
    "evaluate",
    "evaluation_report",
    "export_run",
    "is_main_process",
    "list_backbones",
    "list_datasets",
    "list_methods",
    "list_recipes",
    "list_runs",
    "load",
    "missing_methods",
    "nearest_option",
    "recipe_help",
    "resolve_recipes",
    "split_overrides",
    "train",
    "train_several",
]

AnyPath = str | os.PathLike[str]


@naming_arguments
@log_shown()
def train(
    recipe: _OneRecipe,
    *,
    data: str | Dataset[Any] | Mapping[str, Dataset[Any]] | None = None,
    runs: AnyPath = "runs",
    overwrite: bool = False,
    show_progress: bool = True,
    trust_imports: bool = False,
    keep_logits: bool = False,
    **overrides: Any,
) -> Run:
    """Train a recipe in this process, to its end. An unfinished run is continued, a finished one is kept.

    Training sets the state of torch's random generators.

    Args:
        recipe: name of a recipe of the package, path of a YAML file, or a resolved recipe such as `run.recipe`.
        data: name of a data set, as on the command line; or your own images: a map-style Dataset of (image, label), or
            a mapping from "train", "validation" and "test" to such data sets (docs/data.md).
        runs: folder of all runs.
        overwrite: delete an earlier run and begin anew.
        show_progress: show a progress bar; otherwise log a line for each evaluated epoch.
        trust_imports: let a recipe file name `package.module:Name`, whose import runs code.
        keep_logits: keep the logits of all test images after the last epoch in the run's folder.
        overrides: changes to the recipe.
    Returns: the finished run.
    Raises:
        UnknownNameError: if there is no such recipe, part or option; the message gives the nearest.
        RecipeError: if a value is not allowed, or the arguments name several runs.
        UserError: if data, network, options or the run's folder cannot be used.
        RunInterruptedError: on Ctrl-C or SIGTERM. The same call continues.
        NonFiniteLossError, MemoryExhaustedError, CheckpointError, StorageError, WorkerKilledError, ProcessLostError: if
            the training fails. The last checkpoint is whole, and the same call continues.
    """
    from selfkd.recipes.given_data import chosen_data

    chosen, given = chosen_data(data)
    resolved = _one_recipe(recipe, {**overrides, **chosen}, trust_imports)
    if given:
        resolved = replace(resolved, given=given)

    from selfkd.runs.loading import SavedRun
    from selfkd.runs.prepare import as_begun
    from selfkd.runs.run import Run
    from selfkd.runs.train import run

    folder = run(resolved, _folder(runs), overwrite, show_progress, trust_imports, keep_logits)
    return Run(SavedRun(folder, as_begun(folder, resolved)))


@naming_arguments
@log_shown()
def train_several(
    recipes: _Recipes | None = None,
    *,
    seeds: int | Sequence[int] | None = None,
    jobs: int = 1,
    runs: AnyPath = "runs",
    overwrite: bool = False,
    show_progress: bool = True,
    trust_imports: bool = False,
    seconds: float | None = None,
    keep_logits: bool = True,
    **overrides: Any,
) -> list[TrainingOutcome]:
    """Train several recipes, each in a process of its own. A run that fails does not end the others.

    Args:
        recipes, seeds, overrides: as for `resolve_recipes`.
        jobs: how many runs are trained beside each other; they share the cores.
        runs: folder of all runs.
        overwrite: delete earlier runs of these recipes and begin anew.
        show_progress: show one progress bar for all runs; otherwise log a line when a run begins or ends.
        trust_imports: let a recipe file name `package.module:Name`, whose import runs code.
        seconds: stop after so many seconds; the same call continues. None for no limit.
        keep_logits: let each run keep the logits of all test images after the last epoch, which a comparison needs.
    Returns: how the training of each run ended, in the order of `resolve_recipes`.
    Raises:
        UserError: as `resolve_recipes`; also if none of the recipes can be trained.
        RunInterruptedError: on Ctrl-C or SIGTERM. The same call continues.
    """
    resolved = resolve_recipes(recipes, seeds=seeds, trust_imports=trust_imports, **overrides)

    from selfkd.runs.several import train_several

    return train_several(resolved, _folder(runs), jobs, show_progress, trust_imports, seconds, overwrite, keep_logits)


@naming_arguments
@log_shown()
def compare(
    recipes: _Recipes,
    seeds: int | Sequence[int] | None = None,
    *,
    runs: AnyPath = "runs",
    jobs: int = 1,
    train: bool = True,
    heads: Literal["main", "all"] = "main",
    baseline: str | None = None,
    allow_differences: bool = False,
    show_progress: bool = True,
    trust_imports: bool = False,
    **overrides: Any,
) -> Comparison:
    """Compare recipes over seeds. What is missing is trained, what is unfinished is continued.

    Args:
        recipes: names of recipes, patterns such as "demo/digits/resnet18/*", paths of YAML files, or resolved recipes.
        seeds: a number of seeds, which are counted from 0, or the seeds; 3 by default.
        runs: folder of all runs.
        jobs: how many runs are trained beside each other.
        train: False compares the runs that are finished, and trains and evaluates nothing.
        heads: "main" for the deployed heads and those with a published figure, or "all".
        baseline: the recipe that the others are compared with. By default this is the only one with the method plain,
            or else the first.
        allow_differences: compare recipes with other data or another training, too.
        show_progress: show progress bars; otherwise log a line when a run begins or ends.
        trust_imports: let a recipe file name `package.module:Name`, whose import runs code.
        overrides: changes to every recipe. A part may be a list: `method=["plain", "dtskd"]`.
    Returns: the tables, as records, Markdown, CSV, LaTeX and JSON.
    Raises:
        RecipeError: if no recipe is given, or the recipes do not train alike.
        UnfinishedRunsError: if no run could be finished.
        RunError: if `train` is False and no run is finished.
        OptionError: if `seeds`, `jobs`, `heads` or `baseline` has another value.
        UserError, RunInterruptedError: as `train_several` does.
    """
    from selfkd.recipes.keyword_overrides import flat_overrides

    changes = flat_overrides(_without_objects(overrides))

    from selfkd.reports.compare import compare

    return compare(
        _listed(recipes),
        seeds,
        changes,
        _folder(runs),
        jobs,
        train=train,
        heads=heads,
        baseline=baseline,
        allow_differences=allow_differences,
        show_progress=show_progress,
        trust_imports=trust_imports,
    )


@naming_arguments
@log_shown()
def compare_runs(
    trained: Run | TrainingOutcome | Iterable[Run | TrainingOutcome],
    *,
    heads: Literal["main", "all"] = "all",
    baseline: str | None = None,
    evaluate_missing: bool = True,
    **overrides: Any,
) -> Comparison:
    """Compare runs that `train`, `train_several` or `load` gave.

    Args:
        trained: one run or several.
        heads, baseline: as for `compare`.
        evaluate_missing: evaluate the runs that have not kept their predictions for the test images.
        overrides: options of the machine, such as `data_root`, for the runs that are evaluated now.
    Raises:
        UserError: if something else than runs is given, or none.
        RecipeError: if `overrides` holds another option.
        UnfinishedRunsError: if no run is finished.
        OptionError: if `baseline` is none of the recipes.
    """
    from selfkd.recipes.keyword_overrides import flat_overrides
    from selfkd.recipes.recipe import changeable
    from selfkd.reports.compare import compare_outcomes

    options = flat_overrides(overrides)
    given: object = trained  # a user may give anything
    several = given if isinstance(given, Iterable) and not isinstance(given, str) else [given]
    outcomes = [_outcome_of(run) for run in several]
    fixed = sorted(options.keys() - changeable(options).keys())
    if fixed:
        raise RecipeError(
            f"{', '.join(fixed)} cannot change in runs that exist; compare_runs takes options of the machine, such as "
            "data_root"
        )
    return compare_outcomes(outcomes, heads, baseline, evaluate_with=options if evaluate_missing else None)


@overload
def evaluate(
    run: AnyPath,
    split: str = ...,
    checkpoint: str = ...,
    *,
    data: LabelledImages | None = ...,
    keep_logits: bool = ...,
    temperature: bool = ...,
    trust_imports: bool = ...,
    **overrides: Any,
) -> Evaluation: ...
@overload
def evaluate(
    run: AnyPath,
    split: str = ...,
    checkpoint: str = ...,
    *,
    data: list[LabelledImages] | tuple[LabelledImages, ...],
    keep_logits: bool = ...,
    temperature: bool = ...,
    trust_imports: bool = ...,
    **overrides: Any,
) -> list[Evaluation]: ...
@naming_arguments
@log_shown()
def evaluate(
    run: AnyPath,
    split: str = "test",
    checkpoint: str = "last",
    *,
    data: LabelledImages | list[LabelledImages] | tuple[LabelledImages, ...] | None = None,
    keep_logits: bool = False,
    temperature: bool = False,
    trust_imports: bool = False,
    **overrides: Any,
) -> Evaluation | list[Evaluation]:
    """Evaluate every head of a run and their ensemble. docs/evaluation.md explains the metrics.

    An unfinished run is evaluated from its newest undamaged checkpoint, with a warning. The evaluation of a split is
    also written into the run's folder, as `evaluation/<split>-<checkpoint>.json`.

    Args:
        run: the run's folder.
        split: "test", "train" or "validation".
        checkpoint: weights of the "last" or the "best" epoch.
        data: other labelled images instead of a split of the run's data: a folder with one folder of images for each
            class, a CSV file of paths and labels, or a map-style torch Dataset of pairs (image, label). Their classes
            are classes of the run, and not all of them need to be there. A list of several gives a list of evaluations.
            `load(run, data=DATASET).evaluate()` evaluates a split of the Dataset object that the run was trained on.
        keep_logits: keep the logits of all images beside that file, as `evaluation/<split>-<checkpoint>.safetensors`.
        temperature: also fit a temperature for each head and measure with it.
        trust_imports: let the run's recipe name `package.module:Name`, whose import runs code.
        overrides: options of the machine, such as `data_root` if the data has moved, or `loader_workers`.
    Returns: the evaluation; a list if `data` is one.
    Raises:
        OptionError: if an option has another value, or options exclude each other.
        RunError: if there is no such run, weights or split.
        RecipeError: if `overrides` holds another option.
        CheckpointError: if the checkpoint is damaged.
        DataError: if an image cannot be read, or `data` has other classes.
        StorageError, WorkerKilledError, MemoryExhaustedError: if the work fails.
    """
    from selfkd.recipes.keyword_overrides import flat_overrides

    folder = _folder(run)
    check_run(folder)
    changes = flat_overrides(overrides)
    # The import takes seconds, so it follows the checks that do without it.

    from selfkd.runs.evaluate import evaluate

    return evaluate(
        folder,
        split,
        checkpoint,
        data=data,
        keep_logits=keep_logits,
        temperature=temperature,
        overrides=changes,
        trust_imports=trust_imports,
    )


def evaluation_report(evaluation: Evaluation | Sequence[Evaluation]) -> str:
    """The tables of an evaluation, or of several of one run, as text, as the command prints them."""
    from selfkd.reports.evaluation_report import evaluation_report, evaluation_reports

    return evaluation_reports(evaluation) if isinstance(evaluation, Sequence) else evaluation_report(evaluation)


@log_shown()
def load(
    run: AnyPath,
    checkpoint: str = "last",
    *,
    data: Dataset[Any] | Mapping[str, Dataset[Any]] | None = None,
    trust_imports: bool = False,
) -> Run:
    """Load a run. An unfinished run is loaded from its newest undamaged checkpoint, with a warning.

    Args:
        run: its folder.
        checkpoint: `Run.network` and `Run.predict` use the weights of the "last" or the "best" epoch.
        data: the Dataset object that the run was trained on, or the mapping from names of splits to such objects. No
            file holds it; only `Run.evaluate` of a split needs it.
        trust_imports: let the run's recipe name `package.module:Name`, whose import runs code.
    Raises:
        OptionError: if `checkpoint` is neither.
        RunError: if there is no such run or it has no such weights yet.
        RecipeError: if its recipe names code of the user's own and that is not trusted. Also if `data` is no Dataset
            object, or the run was trained on something else.
        CheckpointError: if its network file and all checkpoints are damaged.
        MemoryExhaustedError: if there is too little memory.
    """
    check_run(_folder(run))  # before the import, which takes seconds

    from selfkd.runs.run import Run

    opened = Run.open(run, checkpoint, data=data, trust_imports=trust_imports)
    _ = opened.network  # damage shows now, not when the network is used
    return opened


@log_shown()
def export_run(
    run: AnyPath,
    *,
    output: AnyPath | None = None,
    format: str = "safetensors",  # noqa: A002  # the command's name for it
    checkpoint: str = "last",
    overwrite: bool = False,
    trust_imports: bool = False,
) -> tuple[Path, float]:
    """Write the plain network of a run to a file, for the command. `Run.export` does the same.

    Args:
        run: the run's folder. Apart from its weights, its files may be damaged.
        output, format, checkpoint, overwrite: as for `Run.export`.
        trust_imports: let the run's recipe name `package.module:Name`, whose import runs code.
    Returns: the file, and the largest absolute difference of a logit to the trained network.
    Raises: as `Run.export`.
    """
    check_run(_folder(run))  # before the import, which takes seconds

    from selfkd.runs.export import export_run

    return export_run(_folder(run), checkpoint, output, trust_imports=trust_imports, overwrite=overwrite, format=format)


@naming_arguments
@log_shown()
def check(data: AnyPath, /, *, quick: bool = False, **overrides: Any) -> Report:
    """Check a data set before training: open every image, and report what is wrong or strange.

    Args:
        data: a folder, or a name of `list_datasets` with `data_root`.
        quick: open no image; check layout and classes only.
        overrides: options of data set and network, as for training; `data` names the data set that reads a folder.
    Raises: UserError: if there is no such data set or folder, or an option is not allowed.
    """
    from selfkd.data import DATASETS
    from selfkd.recipes.keyword_overrides import flat_overrides

    if not isinstance(data, str | os.PathLike):
        raise UserError(
            f"an object of type {type(data).__name__} cannot be checked; give a folder, a CSV file, the name of a data "
            "set, or 'package.module:Class' for a class of Datasets"
        )
    changes, name = flat_overrides(overrides), os.fspath(data)
    if name not in DATASETS and not is_own(name):
        data_place(name)
    # The import takes seconds, so it follows the checks that do without it.

    from selfkd.runs.checkup import check

    return check(name, changes, quick)


@naming_arguments
def resolve_recipes(
    recipes: _Recipes | None = None,
    *,
    seeds: int | Sequence[int] | None = None,
    trust_imports: bool = False,
    **overrides: Any,
) -> list[Recipe]:
    """The recipes that `train_several` trains: every option has its value.

    Args:
        recipes: names of recipes, patterns such as "demo/digits/resnet18/*", paths of YAML files, or resolved recipes.
            None stands for the recipes of the demo.
        seeds: a number of seeds, which are counted from 0, or the seeds; also `seed=[0, 1]`. By default each recipe has
            its own seed, and the demo has three.
        trust_imports: let a recipe file name `package.module:Name`, whose import runs code.
        overrides: changes to every recipe. A part may be a list, `method=["plain", "dtskd"]`: every combination is
            trained.
    Raises:
        UnknownNameError: if there is no such recipe, part or option; the message gives the nearest.
        RecipeError: if a value is not allowed, or two recipes would share a run folder.
        OptionError: if `seeds` has another value.
    """
    from selfkd.recipes.demo import demo_recipes
    from selfkd.recipes.keyword_overrides import flat_overrides
    from selfkd.recipes.several import resolve_several

    changes = flat_overrides(_without_objects(overrides))
    if recipes is None:
        return demo_recipes(changes, seeds)
    return resolve_several(_listed(recipes), changes, seeds, trust_imports)


def recipe_help(recipe: str | os.PathLike[str] | Recipe, *, trust_imports: bool = False, **overrides: Any) -> str:
    """Every option of a recipe with its meaning, type and value, as text.

    Args:
        recipe: name of a recipe of the package, path of a YAML file, or a resolved recipe such as `run.recipe`.
        trust_imports: let a recipe file name `package.module:Name`, whose import runs code.
        overrides: changes to the recipe. Other parts have other options.
    Raises: UnknownNameError, RecipeError: as `train`.
    """
    from selfkd.recipes.options_help import options_help

    resolved = _one_recipe(recipe, overrides, trust_imports)
    return options_help(resolved.parts, resolved.flat())


def list_runs(runs: AnyPath = "runs") -> list[ListedRun]:
    """List all runs in a folder and in the folders below it. torch is not imported.

    Args:
        runs: the folder of the runs, or the folder of one run.
    Raises: RunError: if there is no such folder.
    """
    from selfkd.runs.listing import list_runs

    return list_runs(_folder(runs))


def list_recipes() -> dict[str, str]:
    """The names of all recipes of the package, each with one line about it. torch is not imported."""
    from selfkd.recipes.files import recipe_names, recipe_summary

    return {name: recipe_summary(name) for name in recipe_names()}


def is_recipe(name: str) -> bool:
    """Whether this is the name of a recipe of the package, whole or short, or a YAML file. torch is not imported."""
    from selfkd.recipes.files import ENDINGS, is_short_for, recipe_names

    if name.endswith(ENDINGS):
        return Path(name).is_file()
    known = recipe_names()
    return name in known or sum(is_short_for(name, each) for each in known) == 1


def list_methods() -> dict[str, ListedMethod]:
    """The names of all methods, each with what it needs, costs and gains. torch is not imported."""
    from selfkd.methods.listing import list_methods

    return list_methods()


def missing_methods() -> dict[str, str]:
    """The methods of the papers' tables that nobody can build exactly: by name, each with the reason."""
    from selfkd.methods.not_specifiable import NOT_SPECIFIABLE

    return {name: str(method) for name, method in NOT_SPECIFIABLE.items()}


def list_backbones() -> dict[str, str]:
    """The names of the networks for small images, each with one line about it. torch is not imported.

    Every name of `timm.list_models()` is a network, too, and so is every one of torchvision's, as
    "torchvision/resnet18".
    """
    from selfkd.backbones import BACKBONES

    return {name: entry.summary for name, entry in BACKBONES.items()}


def list_datasets() -> dict[str, str]:
    """The names of all data sets, each with one line about it. torch is not imported."""
    from selfkd.data import DATASETS

    return {name: entry.summary for name, entry in DATASETS.items()}


def is_main_process() -> bool:
    """Whether this process reports. False in all but one of the processes that torchrun or srun has started."""
    from selfkd.training.processes import is_main_process

    return is_main_process()


def check_output(output: AnyPath, overwrite: bool = False) -> Path:
    """Check that a file may be written, before long work whose result it gets. Nothing is written.

    Args:
        output: the file.
        overwrite: whether a file that exists may be replaced. A file of a run never may.
    Returns: the file, links followed.
    Raises: OptionError: if the file may not be written.
    """
    from selfkd.runs.overwrite import checked_output

    return checked_output(_folder(output), overwrite)


def split_overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """The overrides of the command, `key=value`, as keyword arguments of the functions here.

    Raises:
        RecipeError: if an argument has another form, or a key is given twice.
        UnknownNameError: if no part has an option with this key; the message gives the nearest.
    """
    from selfkd.recipes.key_checks import split_overrides

    overrides: dict[str, Any] = {**split_overrides(arguments)}
    return overrides


def changeable_options(**overrides: Any) -> dict[str, Any]:
    """Those of the overrides, by flat key, that may change in a run that exists, because they are of the machine.

    Raises: UserError: as `resolve_recipes`, for an override that no part has.
    """
    from selfkd.recipes.keyword_overrides import flat_overrides
    from selfkd.recipes.recipe import changeable

    return changeable(flat_overrides(overrides))


def nearest_option(word: str, value: str = "...") -> str | None:
    """The override that a user of the command may have meant: `trainer.epochs=3` for `--epochs` and 3.

    Args:
        word: the user's word, with or without dashes before it.
        value: the user's value.
    Returns: None if no key is near.
    """
    from selfkd.recipes.key_checks import nearest_option

    return nearest_option(word, value)


def _one_recipe(recipe: _OneRecipe, overrides: Mapping[str, Any], trust_imports: bool) -> Recipe:
    """The only recipe that the arguments name.

    Raises: RecipeError: if they name several.
    """
    from selfkd.recipes.keyword_overrides import flat_overrides
    from selfkd.recipes.several import resolve_several

    resolved = resolve_several([_checked_recipe(recipe)], flat_overrides(overrides), None, trust_imports)
    if len(resolved) > 1:
        raise RecipeError(
            f"the arguments name {len(resolved)} runs, the first two {resolved[0].name} seed {resolved[0].seed} and "
            f"{resolved[1].name} seed {resolved[1].seed}; train takes one, train_several takes several"
        )
    return resolved[0]


def _without_objects(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The overrides of several runs.

    Raises: UserError: if their data is an object, or is not the name of a data set.
    """
    from selfkd.recipes.given_data import chosen_data

    data = overrides.get("data")
    chosen, given = chosen_data(data)
    if given:
        raise UserError(
            f"an object of type {type(data).__name__} cannot be the data of several runs, because each of them is "
            "trained in a process of its own; give a class or a function with data='package.module:Class', or call "
            "train"
        )
    return {**overrides, **chosen}


def _outcome_of(run: object) -> TrainingOutcome:
    """A run as `train_several` would have given it.

    Raises: UserError: if it is no run.
    """
    from selfkd.reports.compare import outcome_without_training
    from selfkd.runs.run import Run
    from selfkd.runs.several import TrainingOutcome

    if isinstance(run, TrainingOutcome):
        return run
    if isinstance(run, Run):
        return outcome_without_training(run.recipe, run.saved.folder)
    raise UserError(f"{shown(run)} is not a run; give what train, train_several or load(folder) returned")


def _listed(recipes: _Recipes) -> list[str | Recipe]:
    """The recipes as a list of names and resolved recipes.

    Raises: RecipeError: if something else is given.
    """
    from selfkd.recipes.recipe import Recipe

    if isinstance(recipes, str | os.PathLike | Recipe) or not isinstance(recipes, Iterable):
        return [_checked_recipe(recipes)]
    return [_checked_recipe(each) for each in recipes]


def _checked_recipe(recipe: object) -> str | Recipe:
    from selfkd.recipes.recipe import Recipe

    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, str | os.PathLike):
        name = os.fspath(recipe)
        return str(_folder(name)) if name.startswith("~") else name
    raise RecipeError(
        f"{shown(recipe)} is not a recipe; give the name of a recipe, the path of a YAML file, or a resolved recipe "
        "such as run.recipe"
    )


def _folder(path: AnyPath) -> Path:
    """The path of a folder or a file, with `~` replaced by the user's home.

    Raises: UserError: if it is not a path.
    """
    if not isinstance(path, str | os.PathLike):
        raise UserError(f"{shown(path)} is not a path; give a text or a pathlib.Path")
    return expanded(path)
