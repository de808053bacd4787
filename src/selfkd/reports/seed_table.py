"""Several runs of several recipes as one table: mean over seeds with its 95 % interval, last and best epoch apart."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from scipy.stats import t as student_t
from tabulate import tabulate

from selfkd.errors import RunError
from selfkd.evaluation.scores import Score, digits
from selfkd.runs.records import RunScores
from selfkd.terminal import printable

__all__ = ["Estimate", "Row", "accuracy", "rows_of", "table"]


@dataclass(frozen=True)
class Estimate:
    """A mean over n runs, of a figure in percent.

    Args:
        mean: arithmetic mean.
        half_width: half the 95 % interval of the mean (Student's t); None for a single run.
        n: number of runs.
    """

    mean: float
    half_width: float | None
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        """From one value per run, at least one."""
        n = len(values)
        if n == 1:
            return cls(values[0], None, 1)
        standard_error = statistics.stdev(values) / math.sqrt(n)
        return cls(statistics.fmean(values), float(student_t.ppf(0.975, n - 1)) * standard_error, n)

    def __str__(self) -> str:
        mean = digits(self.mean, "%")
        return mean if self.half_width is None else f"{mean} ± {digits(self.half_width, '%')}"


@dataclass(frozen=True)
class Row:
    """One head of one recipe, over its seeds; accuracies are top-1 in percent.

    Args:
        recipe: name of the recipe.
        method: name of the method.
        head: "main" is what is deployed.
        test_last: test accuracy after the last epoch.
        test_best: test accuracy at the epoch where the main head was best on the selecting split.
        train_last: accuracy on the unaugmented training set after the last epoch.
        best_epochs: which epochs were best, counted from 1, in the order of the seeds.
        seconds_per_epoch: median training time of an epoch, mean over seeds; None where it was not logged.
        rule: how the best epoch was chosen.
    """

    recipe: str
    method: str
    head: str
    test_last: Estimate
    test_best: Estimate
    train_last: Estimate
    best_epochs: tuple[int, ...]
    seconds_per_epoch: float | None
    rule: str


def rows_of(scores: Iterable[RunScores]) -> list[Row]:
    """One row per recipe and head, in the order of the runs.

    Args:
        scores: contents of the runs' scores.json.
    Raises: RunError: if a run has no top-1 accuracy of such a head, as those of other tasks.
    """
    by_recipe: dict[str, list[RunScores]] = {}
    for run in scores:
        by_recipe.setdefault(run["recipe"], []).append(run)
    return [
        _row(recipe, head, runs)
        for recipe, runs in by_recipe.items()
        for head in runs[0]["last"]["scores"].get("test", ["main"])  # whose accuracy is then missed in words
    ]


def accuracy(run: RunScores, which: Literal["last", "best"], split: str, head: str = "main") -> Score:
    """The top-1 accuracy of a head.

    Args:
        run: content of its scores.json.
        which: of the "last" or the "best" epoch.
        split: images that it was measured on.
        head: its name.
    Raises: RunError: if there is none, as in a run of another task.
    """
    try:
        return run[which]["scores"][split][head]["top1"]
    except KeyError as error:
        raise RunError(
            f"the run {run['recipe']} has no top-1 accuracy of {head} on the split {split}, which this table shows; "
            "what it measured stands in its scores.json"
        ) from error


def _row(recipe: str, head: str, runs: Sequence[RunScores]) -> Row:
    def top1(which: Literal["last", "best"], split: str) -> Estimate:
        return Estimate.of([accuracy(run, which, split, head)["value"] for run in runs])

    seconds = [run["seconds"]["train_epoch_median"] for run in runs]
    logged = [value for value in seconds if value is not None]
    return Row(
        recipe=recipe,
        method=runs[0]["method"],
        head=head,
        test_last=top1("last", "test"),
        test_best=top1("best", "test"),
        train_last=top1("last", "train"),
        best_epochs=tuple(run["best"]["epoch"] for run in runs),
        seconds_per_epoch=statistics.fmean(logged) if len(logged) == len(runs) else None,
        rule=runs[0]["selection"]["rule"],
    )


def table(rows: Sequence[Row]) -> str:
    """The rows as text that is also Markdown."""
    shared = len({row.method for row in rows}) == len({row.recipe for row in rows})
    cells = [
        {
            "method" if shared else "recipe": printable(row.method if shared else row.recipe),
            "head": printable(row.head),
            "test acc., last epoch (%)": str(row.test_last),
            f"at {printable('/'.join(sorted({r.rule for r in rows})))} epoch (%)": str(row.test_best),
            "best epoch": ", ".join(str(epoch) for epoch in row.best_epochs),
            "train acc. (%)": str(row.train_last),
            "s/epoch": "" if row.seconds_per_epoch is None else f"{row.seconds_per_epoch:.3g}",
            "runs": row.test_last.n,
        }
        for row in rows
    ]
    return tabulate(cells, headers="keys", tablefmt="github", disable_numparse=True)
