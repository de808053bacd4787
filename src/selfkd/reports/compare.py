"""Compare recipes over seeds: train what is missing, and make the tables."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from selfkd.errors import OptionError, RunError, SelfKDError, UnfinishedRunsError, UserError, first_line
from selfkd.option_checks import one_of
from selfkd.recipes.files import is_short_for
from selfkd.recipes.recipe import Recipe, changeable
from selfkd.recipes.several import resolve_several
from selfkd.reports.comparison import Comparison, Skipped
from selfkd.reports.results import HEADS, MAIN, Heads, Result, read_result
from selfkd.reports.same_training import check_same_training
from selfkd.reports.short_names import short_names, without_overrides
from selfkd.runs.evaluate import predict_split
from selfkd.runs.kept_predictions import read_predictions
from selfkd.runs.listing import ListedRun, list_runs
from selfkd.runs.prepare import as_begun
from selfkd.runs.run_folder import RunFolder
from selfkd.runs.several import TrainingOutcome, train_several
from selfkd.training.checkpoint_names import has_checkpoints

__all__ = ["compare", "compare_outcomes", "outcome_without_training"]

_PLAIN = "plain"
_SPLIT, _CHECKPOINT = "test", "last"
_SEEDS = 3
_SHORT_SECONDS = 2  # shorter work shows no bar


def compare(
    recipes: str | Recipe | Sequence[str | Recipe],
    seeds: int | Sequence[int] | None = None,
    overrides: Mapping[str, Any] | None = None,
    runs: str | os.PathLike[str] = "runs",
    jobs: int = 1,
    *,
    train: bool = True,
    heads: Heads = "main",
    baseline: str | None = None,
    allow_differences: bool = False,
    show_progress: bool = True,
    trust_imports: bool = False,
) -> Comparison:
    """Compare recipes over seeds. What is missing is trained, what is unfinished is continued.

    Differences over images need the predictions for the test images. A run that is trained now keeps them. A finished
    run that has not kept them predicts once, and keeps them if its folder can be written.

    Args:
        recipes: names of recipes, patterns such as "demo/digits/resnet18/*", paths of YAML files, or resolved recipes.
        seeds: a number of seeds, which are counted from 0, or the seeds. By default those of `overrides`; without
            these, 3 seeds.
        overrides: flat keys that replace those of every recipe, such as {"trainer.epochs": 15}. A list with commas is
            compared: {"method": "plain,dtskd"}.
        runs: the folder of all runs.
        jobs: how many runs are trained beside each other.
        train: False compares the runs that are finished and trains nothing. Neither data nor weights are needed then.
        heads: "main" for the deployed heads and all heads with a published figure, or "all".
        baseline: the recipe that the others are compared with. By default this is the only one with the method plain,
            or else the first.
        allow_differences: compare recipes with other data or another training, too. The tables then name the
            differences.
        show_progress: show progress bars; otherwise log a line when a run begins or ends.
        trust_imports: let a recipe file name `package.module:Name`, whose import runs code.
    Returns: the comparison. Runs that failed or are not finished are in `skipped`, with the reason.
    Raises:
        RecipeError: if no recipe is given, or the recipes do not train alike.
        UnfinishedRunsError: if no run could be finished.
        RunError: if `train` is False and no run is finished.
        OptionError: if `seeds`, `jobs`, `heads` or `baseline` has another value.
        UserError, RunInterruptedError: as `resolve_several` and `train_several` do.
    """
    names = [recipes] if isinstance(recipes, str | Recipe) else list(recipes)
    one_of("heads", heads, HEADS)
    given = dict(overrides or {})
    default = None if "seed" in given else _SEEDS
    resolved = resolve_several(names, given, default if seeds is None else seeds, trust_imports)
    base = _baseline(resolved, baseline)
    if not allow_differences:
        check_same_training([base, *(recipe for recipe in _distinct(resolved) if recipe is not base)], train)
    folder = Path(runs)
    if train:
        outcomes = train_several(resolved, folder, jobs, show_progress, trust_imports, keep_logits=True)
    else:
        outcomes = [outcome_without_training(recipe, RunFolder.of(recipe, folder)) for recipe in resolved]
    return compare_outcomes(outcomes, heads, base.name, train, changeable(given) if train else None)


def compare_outcomes(
    outcomes: Sequence[TrainingOutcome],
    heads: Heads = "all",
    baseline: str | None = None,
    trained: bool = True,
    evaluate_with: Mapping[str, Any] | None = None,
) -> Comparison:
    """Compare the runs of `train_several`.

    Args:
        outcomes: of at least one run.
        heads, baseline: as for `compare`.
        trained: whether the runs that are not finished were to be trained.
        evaluate_with: options of the machine with which runs are evaluated that have not kept their predictions for
            the test images; None to evaluate none.
    Raises:
        UserError: if there is no outcome.
        UnfinishedRunsError: if no run was finished. RunError: if none was to be trained, either.
        OptionError: if `baseline` is none of the recipes.
    """
    if not outcomes:
        raise UserError("there is no run to compare; give one or more")
    outcomes = [replace(each, recipe=as_begun(each.folder, each.recipe)) for each in outcomes]
    recipes = _distinct([outcome.recipe for outcome in outcomes])
    base = _baseline(recipes, baseline)
    results: list[Result] = []
    skipped: list[Skipped] = []
    for outcome in outcomes:
        reason = outcome.error
        if reason is None:
            try:
                results.append(read_result(outcome.recipe, outcome.folder))
            except SelfKDError as error:
                reason = str(error)
        if reason is not None:
            recipe = outcome.recipe
            in_one_line = next(iter(reason.splitlines()), "")
            skipped.append(Skipped(recipe.name, recipe.seed, outcome.folder.path, in_one_line, trained))
    if not results:
        failure = UnfinishedRunsError if trained else RunError
        raise failure(f"no run is finished; the first is {skipped[0].folder}: {skipped[0].reason}")
    with_predictions = _with_predictions(results, base.name, heads, evaluate_with)
    return Comparison.of(recipes, with_predictions, base.name, heads, skipped)


def _distinct(recipes: Sequence[Recipe]) -> list[Recipe]:
    """The recipes without regard to their seeds, each once."""
    by_name: dict[str, Recipe] = {}
    for recipe in recipes:
        by_name.setdefault(recipe.name, recipe)
    return list(by_name.values())


def _baseline(recipes: Sequence[Recipe], given: str | None) -> Recipe:
    """The recipe that the others are compared with."""
    distinct = _distinct(recipes)
    if given is None:
        plain = [recipe for recipe in distinct if recipe.parts["method"] == _PLAIN]
        return plain[0] if len(plain) == 1 else distinct[0]
    _, short = short_names(distinct)
    for names in ([recipe.name for recipe in distinct], [*map(without_overrides, distinct)], short):
        meant = [recipe for recipe, name in zip(distinct, names, strict=True) if name == given]
        if len(meant) == 1:
            return meant[0]
    meant = [recipe for recipe in distinct if is_short_for(given, without_overrides(recipe))]
    if len(meant) == 1:
        return meant[0]
    raise OptionError("baseline", given, f"one of the compared recipes: {', '.join(each.name for each in distinct)}")


def outcome_without_training(recipe: Recipe, folder: RunFolder) -> TrainingOutcome:
    """The outcome of a run that is not trained now.

    Args:
        recipe: the run's recipe.
        folder: the run's folder, which need not exist.
    """
    listed = list_runs(folder.path) if folder.path.is_dir() else []
    return TrainingOutcome(recipe, folder, _problem(listed[0]) if listed else "it was not trained")


def _problem(run: ListedRun) -> str | None:
    """Why a run is not finished; None if it is."""
    if run.state == "finished":
        return None
    if run.state == "damaged":
        return f"it is damaged: {run.problem}"
    if run.state != "training" and run.epochs_done == run.epochs:
        return f"it is not finished: all {run.epochs} epochs are done, but it has no scores yet"
    now = "it is being trained now" if run.state == "training" else "it is not finished"
    return f"{now}: {run.epochs_done} of {run.epochs} epochs are done"


def _with_predictions(
    results: Sequence[Result],
    baseline: str,
    heads: Heads,
    evaluate_with: Mapping[str, Any] | None,
) -> list[Result]:
    """The results with their predictions for the test images, where a comparison needs them."""
    seeds = {result.seed for result in results if result.recipe.name == baseline}
    if not any(
        result.seed in seeds and (result.recipe.name != baseline or result.shown_heads(heads) != ((MAIN,),))
        for result in results
    ):
        return list(results)
    with tqdm(results, desc="predicting", unit="run", delay=_SHORT_SECONDS, disable=None) as shown:
        return [_with_own_predictions(each, evaluate_with) if each.seed in seeds else each for each in shown]


def _with_own_predictions(result: Result, evaluate_with: Mapping[str, Any] | None) -> Result:
    """A result with its predictions for the test images, or with the reason why they are not known."""
    try:
        if evaluate_with is None:
            predictions = read_predictions(result.folder, _SPLIT, _CHECKPOINT)
        else:
            # `read_result` has found the parts of `result.recipe` in the folder, and they are imported already.
            predictions = predict_split(
                result.folder.path,
                _SPLIT,
                _CHECKPOINT,
                overrides=evaluate_with,
                given=result.recipe.given,
                trust_imports=True,
            )
    except SelfKDError as error:
        why = first_line(error)
        return replace(result, no_predictions=why if evaluate_with is None else f"a run cannot be evaluated now: {why}")
    if predictions is None:
        if not has_checkpoints(result.folder.checkpoints):
            return result
        return replace(
            result, no_predictions=f"{result.no_predictions}; 'selfkd evaluate RUN --keep-logits' keeps them"
        )
    correct = {head: (rows.argmax(dim=1) == predictions.labels).numpy() for head, rows in predictions.logits.items()}
    return replace(result, correct=correct)
