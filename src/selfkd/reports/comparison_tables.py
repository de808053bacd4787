"""A comparison as text: tables for people (Markdown, LaTeX) and for programs (CSV, JSON)."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tabulate import tabulate
from tqdm.auto import tqdm

from selfkd.errors import few
from selfkd.evaluation.scores import digits
from selfkd.json_text import to_json
from selfkd.recipes.values import written
from selfkd.reports.estimates import Difference, Estimate
from selfkd.reports.published import ENOUGH_SEEDS, TOLERANCE
from selfkd.reports.results import MAIN
from selfkd.terminal import printable

if TYPE_CHECKING:
    from selfkd.reports.comparison import Comparison, Cost, Row

__all__ = ["csv_text", "json_text", "latex", "markdown"]

_Cells = list[dict[str, str]]
_MANY_SKIPPED = 20


def markdown(comparison: Comparison) -> str:
    """Two Markdown tables, of accuracy and of cost, and their legend."""
    tables = [_table(cells, "github") for cells in (_accuracy(comparison), _cost(comparison))]
    return "\n\n".join([*tables, "\n".join(f"- {printable(line)}" for line in _legend(comparison))])


def latex(comparison: Comparison) -> str:
    """Two `tabular` environments of the package booktabs. The legend stands before them as comments."""
    comments = "\n".join(f"% {printable(line)}" for line in _legend(comparison))
    tables = [_table(cells, "latex_booktabs") for cells in (_accuracy(comparison), _cost(comparison))]
    return "\n\n".join([comments, *(_typeset(table) for table in tables)])


def csv_text(comparison: Comparison) -> str:
    """A header, and a line for each recipe and head. A cell is empty where the runs do not give its value."""
    costs = {cost.recipe: cost for cost in comparison.costs}
    records = [_record(comparison, row, costs[row.recipe]) for row in comparison.rows]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [*records[0]], lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue().removesuffix("\n")


def json_text(comparison: Comparison) -> str:
    """The record's fields, and the legend."""
    content = asdict(comparison)
    content["folders"] = [str(folder) for folder in comparison.folders]
    content["skipped"] = [{**asdict(run), "folder": str(run.folder)} for run in comparison.skipped]
    content["legend"] = _legend(comparison)
    return to_json(content)


def _table(cells: _Cells, form: str) -> str:
    """The table of these cells, without the columns that are empty in every line."""
    filled = [column for column in cells[0] if any(line[column] for line in cells)]
    lines = [{column: line[column] for column in filled} for line in cells]
    return tabulate(lines, headers="keys", tablefmt=form, disable_numparse=True)


def _typeset(table: str) -> str:
    """Replace the signs that LaTeX would set as text, and keep a first cell from being read as an option of `\\\\`."""
    table = re.sub(r"(?<=[\s\[&])-(?=\d)", "$-$", table.replace("±", r"$\pm$"))
    return re.sub(r"^( *)([\[*])", r"\1{}\2", table, flags=re.MULTILINE)


def _accuracy(comparison: Comparison) -> _Cells:
    selection = "/".join(dict.fromkeys(rule.selection for rule in _rules(comparison)))
    return [
        {
            comparison.naming: printable(row.name),
            "head": printable(row.head),
            "runs": str(row.last.n),
            "last epoch (%)": str(row.last),
            f"{printable(selection)} epoch (%)": str(row.best),
            "training (%)": _text(row.train),
            "difference over seeds": _over_seeds(row),
            "over images": _text(row.over_images),
            "published (%)": _published_value(row),
            "ours, selected alike (%)": "" if row.published is None else _text(row.published.ours),
            "verdict": "" if row.published is None else row.published.verdict.words,
        }
        for row in comparison.rows
    ]


def _cost(comparison: Comparison) -> _Cells:
    return [
        {
            comparison.naming: printable(cost.name),
            "images seen": _text(cost.images_seen, "{:,.0f}".format),
            "s/epoch": _text(cost.seconds_per_epoch, "{:.3g}".format),
            "training time": _text(cost.seconds, tqdm.format_interval),
            "cost": _text(cost.relative if len(comparison.costs) > 1 else None, "{:.2f}".format),
            "parameters": _text(cost.parameters, "{:,.0f}".format),
            "deployed": _text(cost.deployed_parameters, "{:,.0f}".format),
        }
        for cost in comparison.costs
    ]


def _text(value: Any, form: Callable[[Any], str] = str) -> str:
    return "" if value is None else form(value)


def _over_seeds(row: Row) -> str:
    """The difference over seeds, with their number if it is not that of the runs."""
    difference = row.over_seeds
    if difference is None or difference.n == row.last.n:
        return _text(difference)
    return f"{difference} ({difference.n} seed{'s' if difference.n > 1 else ''})"


def _published_value(row: Row) -> str:
    if row.published is None:
        return ""
    figure = row.published.figure
    value = digits(figure.value, "%")
    return value if figure.std is None else f"{value} ± {digits(figure.std, '%')}"


def _legend(comparison: Comparison) -> list[str]:
    """What the numbers are, what is missing and why, and where the runs are."""
    return [
        *_on_accuracy(comparison),
        *_on_differences(comparison),
        *_on_published(comparison),
        *_on_cost(comparison),
        *_on_training(comparison),
        *_on_runs(comparison),
    ]


class _Rule(NamedTuple):
    """A rule that chose best epochs.

    Args:
        selection: "best-on-test".
        after: " after epoch 201"; empty if every evaluated epoch counts.
        names: of the recipes whose runs have it.
    """

    selection: str
    after: str
    names: list[str]

    @property
    def split(self) -> str:
        """The split that chose the epoch."""
        return self.selection.removeprefix("best-on-")


def _rules(comparison: Comparison) -> list[_Rule]:
    """The rules that chose the best epochs."""
    rules = []
    for rule in comparison.rules:
        selection, space, after = rule.partition(" ")
        names = dict.fromkeys(row.name for row in comparison.rows if rule in row.rules)
        rules.append(_Rule(selection, space + after, list(names)))
    return rules


def _on_accuracy(comparison: Comparison) -> list[str]:
    images = " or ".join(f"{number:,}" for number in comparison.test_images)
    single = all(row.last.n == 1 for row in comparison.rows)
    lines = [
        f"The accuracy is top-1 on {images} test images.",
        "There is one run of each recipe, so there is no standard deviation."
        if single
        else "± is the sample standard deviation over the runs.",
    ]
    rules = _rules(comparison)
    for rule in rules:
        of = "" if len(rules) == 1 else f" of {few(rule.names)}"
        lines.append(
            f"{rule.selection}{of}: the evaluated epoch{rule.after} with the highest accuracy of main on the split "
            f"{rule.split}."
        )
    if any(rule.split == "test" for rule in rules):
        lines.append("The accuracy at the best-on-test epoch is too high, because the test images chose the epoch.")
    lines += [f"{head}: the mean of the accuracies of these heads." for head in _averaged(comparison)]
    if any(row.train is not None for row in comparison.rows):
        lines.append("training: accuracy on the training images, not augmented, after the last epoch.")
    return lines


def _averaged(comparison: Comparison) -> list[str]:
    """The names of rows of several heads."""
    figures = [row.published.figure for row in comparison.rows if row.published is not None]
    return list(dict.fromkeys(figure.head for figure in figures if len(figure.heads) > 1))


def _on_differences(comparison: Comparison) -> list[str]:
    names = {row.recipe: row.name for row in comparison.rows}
    if comparison.baseline not in names:
        return [f"There are no differences, because no run of the baseline {comparison.baseline} is finished."]
    compared = [row for row in comparison.rows if (row.recipe, row.head) != (comparison.baseline, MAIN)]
    if not compared:
        return []
    pairs = [0 if row.over_seeds is None else row.over_seeds.n for row in compared]
    over_seeds = "over seeds: the mean over the seeds that a recipe shares with the baseline"
    lines = [
        f"difference: percentage points above (+) or below (-) main of {names[comparison.baseline]}, after the last "
        "epoch.",
        f"{over_seeds}, with its 95 % interval (Student's t)." if max(pairs) > 1 else f"{over_seeds}.",
    ]
    lines += ["A single seed gives no interval."] if 1 in pairs else []
    lines += ["There is no difference where no seed is shared."] if any(_shares_no_seed(comparison)) else []
    if comparison.image_pairs is not None:
        lines += [
            "over images: the mean over the test images, with its 95 % interval (bootstrap).",
            "The interval over images tells what other test images would change, not what other seeds would.",
        ]
        if comparison.image_pairs == "images and seeds":
            lines.append(
                "The seeds have different test images, which may overlap; "
                "the interval counts an image of two seeds as two images."
            )
    return [*lines, *(f"A difference over images is missing: {why}." for why in comparison.without_predictions)]


def _shares_no_seed(comparison: Comparison) -> Iterator[bool]:
    """For each row, whether the baseline has none of its seeds."""
    seeds = {seed for row in comparison.rows if row.recipe == comparison.baseline for seed in row.seeds}
    return (seeds.isdisjoint(row.seeds) for row in comparison.rows)


def _on_published(comparison: Comparison) -> list[str]:
    figures = [row.published.figure for row in comparison.rows if row.published is not None]
    if not figures:
        return []
    how = dict.fromkeys(f"{figure.source} ({figure.reduce}; {figure.selection})" for figure in figures)
    return [
        f"published: {'; '.join(how)}.",
        "ours, selected alike: of the same head, at an epoch that was selected as that of the published figure.",
        f"reproduced: ours, selected alike, differs by at most {TOLERANCE} points or two of our standard "
        f"deviations, in at least {ENOUGH_SEEDS} runs of the unchanged recipe.",
    ]


def _on_cost(comparison: Comparison) -> list[str]:
    costs = comparison.costs
    lines = []
    if any(cost.seconds is not None for cost in costs):
        devices = sorted({device for cost in costs for device in cost.devices})
        lines += [
            f"s/epoch and training time: means over the runs, without evaluation, on {', '.join(devices)}.",
            "Times can be compared if the runs trained on the same machine, and not at the same time.",
        ]
    if len(costs) > 1 and any(cost.relative is not None for cost in costs):
        lines.append("cost: the training time divided by that of the baseline.")
        elsewhere = [cost.name for cost in costs if cost.seconds is not None and cost.relative is None]
        if elsewhere:
            lines.append(
                f"cost is empty for {', '.join(elsewhere)}: the devices or the CPU are not those of the baseline."
            )
    taught = [cost.name for cost in costs if cost.has_teacher]
    if taught:
        lines.append(f"The training of the teacher is not counted: {', '.join(taught)}.")
    return lines + _on_missing_values(comparison)


def _on_missing_values(comparison: Comparison) -> list[str]:
    """Which columns and cells are empty because runs lack the value."""
    costs = comparison.costs
    values: dict[str, list[tuple[str, object]]] = {
        "training": [
            (row.name if row.head == MAIN else f"{row.head} of {row.name}", row.train) for row in comparison.rows
        ],
        "images seen": [(cost.name, cost.images_seen) for cost in costs],
        "s/epoch": [(cost.name, cost.seconds_per_epoch) for cost in costs],
        "training time": [(cost.name, cost.seconds) for cost in costs],
        "parameters": [(cost.name, cost.parameters) for cost in costs],
        "deployed": [(cost.name, cost.deployed_parameters) for cost in costs],
    }
    lines = []
    for column, of_names in values.items():
        missing = [name for name, value in of_names if value is None]
        if len(missing) == len(of_names):
            lines.append(f'There is no column "{column}", because the runs did not record it.')
        elif missing:
            lines.append(f"{column} is empty for {', '.join(missing)}: a run did not record it.")
    return lines


def _on_training(comparison: Comparison) -> list[str]:
    same = ", ".join(f"{key}={value}" for key, value in comparison.same.items())
    lines = [f"The same for all: {same}."] if len(comparison.costs) > 1 else []
    differences = (*comparison.differences, *comparison.data_differences)
    lines += [f"{key} differs: {_values_in_words(comparison, values)}." for key, values in comparison.compared.items()]
    return lines + [f"Not the same: {difference}." for difference in differences]


def _values_in_words(comparison: Comparison, values: Mapping[str, object]) -> str:
    """The values of an option, each with the names of the recipes that have it."""
    names = {row.recipe: row.name for row in comparison.rows}
    recipes: dict[str, list[str]] = {}
    for recipe, value in values.items():
        recipes.setdefault(written(value), []).append(names[recipe])
    return "; ".join(f"{value} in {few(of_value)}" for value, of_value in recipes.items())


def _on_runs(comparison: Comparison) -> list[str]:
    lines = [f"Not in the tables: {run.folder}: {run.reason}" for run in comparison.skipped[:_MANY_SKIPPED]]
    more = len(comparison.skipped) - _MANY_SKIPPED
    lines += [f"Not in the tables: {more} more runs."] if more > 0 else []
    return [*lines, *(f"Runs: {folders}" for folders in _in_braces(comparison.folders))]


def _in_braces(folders: Sequence[Path]) -> Iterator[str]:
    """The folders in a shell's short form: `runs/plain/{seed-0,seed-1}`."""
    for parent, group in groupby(folders, key=lambda folder: folder.parent):
        names = [folder.name for folder in group]
        yield str(parent / (f"{{{','.join(names)}}}" if len(names) > 1 else names[0]))


def _record(comparison: Comparison, row: Row, cost: Cost) -> Mapping[str, object]:
    """A line of the CSV."""
    published = row.published
    figure = None if published is None else published.figure
    return {
        "recipe": row.recipe,
        "name": row.name,
        "head": row.head,
        "seeds": _joined(row.seeds),
        **_columns("last_top1", Estimate, row.last),
        **_columns("best_top1", Estimate, row.best),
        "best_rule": "/".join(row.rules),
        "best_epochs": _joined(row.best_epochs),
        **_columns("train_top1", Estimate, row.train),
        "baseline": comparison.baseline,
        **_columns("over_seeds", Difference, row.over_seeds),
        **_columns("over_images", Difference, row.over_images),
        "images_seen": cost.images_seen,
        "seconds_per_epoch": cost.seconds_per_epoch,
        "seconds": cost.seconds,
        "relative_cost": cost.relative,
        "parameters": cost.parameters,
        "deployed_parameters": cost.deployed_parameters,
        "devices": "/".join(cost.devices),
        "published_top1": None if figure is None else figure.value,
        "published_std": None if figure is None else figure.std,
        "published_source": None if figure is None else figure.source,
        "published_reduce": None if figure is None else figure.reduce,
        "published_selection": None if figure is None else figure.selection,
        **_columns("selected_top1", Estimate, None if published is None else published.ours),
        "verdict": None if published is None else published.verdict.kind,
        "published_difference": None if published is None else published.verdict.difference,
    }


def _joined(numbers: Sequence[float]) -> str:
    return " ".join(map(str, numbers))


def _columns(name: str, kind: type[Estimate | Difference], value: Estimate | Difference | None) -> dict[str, object]:
    """A column for each field of a value; empty if there is no value."""
    cells = {each.name: None if value is None else getattr(value, each.name) for each in fields(kind)}
    return {f"{name}_{key}": _joined(cell) if isinstance(cell, tuple) else cell for key, cell in cells.items()}
