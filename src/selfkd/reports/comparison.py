"""Several recipes beside each other: accuracy over seeds, differences to a baseline, cost, and published figures."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from selfkd.recipes.grid import name_of_heads
from selfkd.recipes.recipe import Recipe
from selfkd.reports import comparison_tables
from selfkd.reports.estimates import Difference, Estimate, paired_over_images, paired_over_seeds
from selfkd.reports.published import Figure, Verdict, is_unchanged, verdict
from selfkd.reports.results import MAIN, Heads, Result
from selfkd.reports.same_training import TrainingDifference, compared_options, training_differences
from selfkd.reports.short_names import short_names

__all__ = ["Comparison", "Cost", "DataDifference", "Published", "Row", "Skipped"]


@dataclass(frozen=True)
class Published:
    """A published figure beside ours.

    Args:
        figure: the published one.
        ours: of the same head, selected in the same way; None if no run can give it.
        verdict: whether ours reproduces it.
    """

    figure: Figure
    ours: Estimate | None
    verdict: Verdict


@dataclass(frozen=True)
class Row:
    """One head of one recipe over its seeds. Accuracies are top-1 in percent, differences in points.

    The values of an accuracy are in the order of `seeds`. Where a published figure is the mean of several heads'
    accuracies, these heads have a row together, whose accuracies are such means.

    Args:
        recipe: name of the recipe, with its overrides.
        name: the shortest name that tells the recipes apart.
        head: name of the head; "main" is the deployed one. Several heads are "mean of main, branch1".
        seeds: of the finished runs.
        last: test accuracy after the last epoch.
        best: test accuracy at the epoch where main was best on the selecting split.
        best_epochs: that epoch of each seed, counted from 1.
        rules: the rules that chose it: "best-on-test", or "best-on-test after epoch 201".
        train: accuracy on the training images, not augmented, after the last epoch; None if a run does not have it.
        over_seeds: difference to the main head of the baseline, last epoch, paired by seed. Runs of a seed that had
            different test images are not paired. None in the baseline's own row, and if no runs are paired.
        over_images: the same runs, paired by image. None, too, if the predictions of a run for the test images are not
            known, or if it is not known whether two runs had the same test images.
        published: the published figure of this head; None if there is none.
    """

    recipe: str
    name: str
    head: str
    seeds: tuple[int, ...]
    last: Estimate
    best: Estimate
    best_epochs: tuple[int, ...]
    rules: tuple[str, ...]
    train: Estimate | None
    over_seeds: Difference | None
    over_images: Difference | None
    published: Published | None


@dataclass(frozen=True)
class Cost:
    """What the training of one recipe costs: means over its seeds, None if a run does not say.

    Args:
        recipe: name of the recipe, with its overrides.
        name: the shortest name that tells the recipes apart.
        seeds: of the finished runs.
        images_seen: number of images that went through the network in training, every view counted.
        seconds_per_epoch: median training time of an epoch, without evaluation.
        seconds: training time of all epochs, without evaluation.
        relative: `seconds` divided by that of the baseline. None, too, if they trained on other devices or CPUs, or on
            another number of them.
        parameters: number of trained parameters.
        deployed_parameters: number of parameters of the network that is deployed.
        devices: the devices that trained, as `Result.device` names them.
        has_teacher: whether the method learns from a teacher, whose own training is not counted here.
    """

    recipe: str
    name: str
    seeds: tuple[int, ...]
    images_seen: float | None
    seconds_per_epoch: float | None
    seconds: float | None
    relative: float | None
    parameters: float | None
    deployed_parameters: float | None
    devices: tuple[str, ...]
    has_teacher: bool


@dataclass(frozen=True)
class Skipped:
    """A run that is not in the tables.

    Args:
        recipe: name of the recipe, with its overrides.
        seed: of the run.
        folder: where it is, or would be.
        reason: why it is not in the tables.
        failed: whether it was to be trained and could not be.
    """

    recipe: str
    seed: int
    folder: Path
    reason: str
    failed: bool


@dataclass(frozen=True)
class DataDifference:
    """Runs of a recipe that had other data than the runs of the baseline with the same seeds.

    Args:
        recipe: name of the recipe, with its overrides.
        baseline: name of the baseline, with its overrides.
        seeds: of these runs.
        in_test_images: whether the test images differ, so that the runs are not paired.
    """

    recipe: str
    baseline: str
    seeds: tuple[int, ...]
    in_test_images: bool

    def __str__(self) -> str:
        what, end = ("test images", ", so no difference is taken") if self.in_test_images else ("data", "")
        seeds = f"seed{'s' if len(self.seeds) > 1 else ''} {', '.join(map(str, self.seeds))}"
        return f"the {what} of {self.recipe} and {self.baseline} ({seeds}){end}"


@dataclass(frozen=True)
class Comparison:
    """Several recipes beside each other.

    Args:
        rows: one for each recipe and head, in the order of the recipes.
        costs: one for each recipe.
        baseline: name of the recipe that the others are compared with, with its overrides.
        naming: what the rows' names are, "method" or "recipe".
        same: the options of data and training that are the same for all recipes, by their keys.
        compared: the options of network, augmentation, regularisation and supervision that are not: key to recipe to
            value.
        differences: the options of data and training in which a recipe differs from the first.
        data_differences: the runs whose data differs from that of the baseline's run with the same seed.
        rules: the rules that chose the best epochs.
        test_images: number of test images; several if it differs between runs.
        image_pairs: whether a pair over images is an image ("images"), or one image in one seed, because each seed has
            its own test images ("images and seeds"); None if nothing is paired so.
        without_predictions: why differences over images are missing, once for each reason; empty if none is.
        folders: of the finished runs.
        skipped: the runs that are not in the tables.
    """

    rows: tuple[Row, ...]
    costs: tuple[Cost, ...]
    baseline: str
    naming: str
    same: Mapping[str, object]
    compared: Mapping[str, Mapping[str, object]]
    differences: tuple[TrainingDifference, ...]
    data_differences: tuple[DataDifference, ...]
    rules: tuple[str, ...]
    test_images: tuple[int, ...]
    image_pairs: Literal["images", "images and seeds"] | None
    without_predictions: tuple[str, ...]
    folders: tuple[Path, ...]
    skipped: tuple[Skipped, ...] = field(default=())

    @classmethod
    def of(
        cls,
        recipes: Sequence[Recipe],
        results: Iterable[Result],
        baseline: str,
        heads: Heads = "main",
        skipped: Sequence[Skipped] = (),
    ) -> Comparison:
        """Compare finished runs.

        Args:
            recipes: those that are compared, each once, in the order of the rows.
            results: at least one, of any seeds.
            baseline: name of the recipe that the others are compared with, with its overrides.
            heads: "main" for the deployed heads and all heads with a published figure, or "all".
            skipped: the runs that are not in the tables.
        """
        by_recipe: dict[str, list[Result]] = {recipe.name: [] for recipe in recipes}
        for result in results:
            by_recipe[result.recipe.name].append(result)
        naming, names = short_names(recipes)
        base = by_recipe[baseline]
        present = [
            (recipe, name, runs)
            for recipe, name in zip(recipes, names, strict=True)
            if (runs := by_recipe[recipe.name])
        ]
        everything = [result for _, _, runs in present for result in runs]
        same_images = _same_images(everything)
        rows = [
            _row(name, of_row, runs, base, same_images)
            for _, name, runs in present
            for of_row in runs[0].shown_heads(heads)
        ]
        paired = any(row.over_images for row in rows)
        return cls(
            rows=tuple(rows),
            costs=tuple(_cost(name, runs, base) for _, name, runs in present),
            baseline=baseline,
            naming=naming,
            same=_same_options([recipe for recipe, _, _ in present]),
            compared=compared_options([recipe for recipe, _, _ in present]),
            differences=tuple(training_differences([recipe for recipe, _, _ in present])),
            data_differences=tuple(each for _, _, runs in present for each in _data_differences(runs, base)),
            rules=tuple(dict.fromkeys(rule for row in rows for rule in row.rules)),
            test_images=tuple(sorted({result.test_images for result in everything})),
            image_pairs=("images" if same_images else "images and seeds") if paired else None,
            without_predictions=_without_predictions(rows, everything, base),
            folders=tuple(result.folder.path for result in everything),
            skipped=tuple(skipped),
        )

    def to_markdown(self) -> str:
        """The tables of accuracy and of cost with their legend, for a terminal or a page."""
        return comparison_tables.markdown(self)

    def to_latex(self) -> str:
        """The same as two `tabular` environments of the package booktabs, with the legend as comments."""
        return comparison_tables.latex(self)

    def to_csv(self) -> str:
        """Everything as CSV: a header, and a line for each recipe and head."""
        return comparison_tables.csv_text(self)

    def to_json(self) -> str:
        """Everything as JSON."""
        return comparison_tables.json_text(self)


def _row(name: str, heads: tuple[str, ...], runs: Sequence[Result], base: Sequence[Result], same_images: bool) -> Row:
    last, best = _by_seed(runs, "last", heads), _by_seed(runs, "best", heads)
    train = [value for run in runs if (value := run.top1("last", heads, "train")) is not None]
    pairs = [] if runs is base and heads == (MAIN,) else _paired(runs, base)
    return Row(
        recipe=runs[0].recipe.name,
        name=name,
        head=name_of_heads(heads),
        seeds=tuple(last),
        last=Estimate.of([*last.values()]),
        best=Estimate.of([*best.values()]),
        best_epochs=tuple(run.scores["best"]["epoch"] for run in runs),
        rules=tuple(sorted({run.rule for run in runs})),
        train=Estimate.of(train) if len(train) == len(runs) else None,
        over_seeds=paired_over_seeds(
            _by_seed([run for run, _ in pairs], "last", heads),
            _by_seed([other for _, other in pairs], "last", (MAIN,)),
        ),
        over_images=_over_images(heads, pairs, same_images),
        published=_published(heads, runs),
    )


def _by_seed(runs: Sequence[Result], which: Literal["last", "best"], heads: Sequence[str]) -> dict[int, float]:
    return {run.seed: value for run in runs if (value := run.top1(which, heads)) is not None}


def _shared(runs: Sequence[Result], base: Sequence[Result]) -> list[tuple[Result, Result]]:
    """The runs with the baseline's runs of the same seeds."""
    of_seed = {run.seed: run for run in base}
    return [(run, of_seed[run.seed]) for run in runs if run.seed in of_seed]


def _paired(runs: Sequence[Result], base: Sequence[Result]) -> list[tuple[Result, Result]]:
    """The same, without runs that had different test images."""
    return [(run, other) for run, other in _shared(runs, base) if run.has_test_images_of(other) is not False]


def _data_differences(runs: Sequence[Result], base: Sequence[Result]) -> Iterator[DataDifference]:
    """The runs whose data differs from that of the baseline's run with the same seed."""
    shared = _shared(runs, base)
    other_tests = tuple(run.seed for run, other in shared if run.has_test_images_of(other) is False)
    other_data = tuple(
        run.seed for run, other in shared if run.has_data_of(other) is False and run.seed not in other_tests
    )
    for seeds, in_test_images in ((other_tests, True), (other_data, False)):
        if seeds:
            yield DataDifference(runs[0].recipe.name, base[0].recipe.name, seeds, in_test_images)


def _over_images(heads: Sequence[str], pairs: Sequence[tuple[Result, Result]], same_images: bool) -> Difference | None:
    """The difference over the images of paired runs; None if a run lacks its predictions."""
    outcomes = []
    for run, other in pairs:
        if not run.has_test_images_of(other) or run.correct is None or other.correct is None:
            return None
        if not run.correct.keys() >= set(heads):
            return None
        outcomes.append((np.mean([run.correct[head] for head in heads], axis=0), other.correct[MAIN]))
    return paired_over_images(outcomes, same_images) if outcomes else None


def _same_images(results: Sequence[Result]) -> bool:
    """Whether all runs whose predictions are known were tested on the same images."""
    predicted = [result for result in results if result.correct is not None]
    return all(each.has_test_images_of(predicted[0]) for each in predicted)


def _without_predictions(rows: Sequence[Row], runs: Sequence[Result], base: Sequence[Result]) -> tuple[str, ...]:
    """Why differences over images are missing where there is one over seeds."""
    if not any(row.over_seeds is not None and row.over_images is None for row in rows):
        return ()
    paired = {run.seed for run in base}
    reasons = dict.fromkeys(run.no_predictions for run in runs if run.seed in paired and run.correct is None)
    return tuple(reasons) or ("a run does not say which test images it had",)


def _published(heads: tuple[str, ...], runs: Sequence[Result]) -> Published | None:
    figure = next((figure for figure in runs[0].selected if figure.heads == heads), None)
    if figure is None:
        return None
    ours = [value for run in runs if (value := run.selected[figure]) is not None]
    unchanged = is_unchanged(runs[0].recipe)
    return Published(figure, Estimate.of(ours) if ours else None, verdict(figure, ours, unchanged))


def _cost(name: str, runs: Sequence[Result], base: Sequence[Result]) -> Cost:
    seconds, of_baseline = (_mean([run.seconds("train_total") for run in each]) for each in (runs, base))
    on_one_device = len({*_devices(runs), *_devices(base)}) == 1
    return Cost(
        recipe=runs[0].recipe.name,
        name=name,
        seeds=tuple(run.seed for run in runs),
        images_seen=_mean([run.scores.get("images_seen") for run in runs]),
        seconds_per_epoch=_mean([run.seconds("train_epoch_median") for run in runs]),
        seconds=seconds,
        relative=seconds / of_baseline if seconds is not None and of_baseline and on_one_device else None,
        parameters=_mean([run.scores.get("parameters", {}).get("training") for run in runs]),
        deployed_parameters=_mean([run.scores.get("parameters", {}).get("deployed") for run in runs]),
        devices=_devices(runs),
        has_teacher="teacher" in runs[0].recipe.parts,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known and len(known) == len(values) else None


def _devices(runs: Sequence[Result]) -> tuple[str, ...]:
    return tuple(sorted({run.device for run in runs}))


def _same_options(recipes: Sequence[Recipe]) -> dict[str, object]:
    """What a reader wants to know of the training, where it is the same for all."""
    first, *others = [recipe.flat() for recipe in recipes]
    keys = ("data", "backbone", "augmentation", "optimizer", "schedule", "loader.batch_size")
    shown = (*keys, "trainer.epochs", "trainer.precision")
    return {key: first[key] for key in shown if all(other.get(key) == first[key] for other in others)}
