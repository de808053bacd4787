"""A table of several runs: one row for each recipe and head, with the mean over the seeds and its 95 % interval."""

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
from selfkd.runs.run_folder import RunFolder
from selfkd.terminal import printable

__all__ = ["Estimate", "Row", "rows_of", "table", "training_report"]


@dataclass(frozen=True)
class Estimate:
    """The mean of a percentage over n runs.

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
        """The estimate from at least one value, one for each run."""
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
    """One head of one recipe over its seeds. Accuracies are top-1 in percent.

    Args:
        recipe: name of the recipe.
        method: name of the method.
        head: name of the head; "main" is the deployed one.
        test_last: test accuracy after the last epoch.
        test_best: test accuracy at the epoch where the main head was best on the selecting split.
        train_last: accuracy on the unaugmented training set after the last epoch.
        best_epochs: the best epoch of each seed, counted from 1.
        seconds_per_epoch: median training time of an epoch, mean over the seeds; None if a run did not log it.
        rule: the rule that chose the best epoch.
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
    """Make one row for each recipe and head, in the order of the runs.

    Args:
        scores: the content of each run's scores.json.
    Raises: RunError: if a run has no top-1 accuracy of a head, as in another task.
    """
    by_recipe: dict[str, list[RunScores]] = {}
    for run in scores:
        by_recipe.setdefault(run["recipe"], []).append(run)
    return [
        _row(recipe, head, runs)
        for recipe, runs in by_recipe.items()
        for head in runs[0]["last"]["scores"].get("test", ["main"])  # an error then says that its accuracy is missing
    ]


def training_report(folders: Sequence[RunFolder]) -> str:
    """The report of finished runs: their table, a legend, and the runs' folders.

    Args:
        folders: of at least one run.
    Raises: RunError: as `rows_of`, and if a file of scores is damaged.
    """
    scores = [folder.scores() for folder in folders]
    images = _top1(scores[0], "last", "test")["n"]
    has_intervals = len(scores) > len({run["recipe"] for run in scores})
    interval = " ± is the 95 % interval of the mean over the runs." if has_intervals else ""
    lines = [
        table(rows_of(scores)),
        "",
        f"Top-1 accuracy on {images} test images in each run.{interval} Runs:",
        *(f"  {printable(str(folder.path))}" for folder in folders),
    ]
    return "\n".join(lines)


def table(rows: Sequence[Row]) -> str:
    """Write the rows as a Markdown table."""
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


def _top1(run: RunScores, which: Literal["last", "best"], split: str, head: str = "main") -> Score:
    """The top-1 accuracy of a head after the last or at the best epoch.

    Raises: RunError: if the run has none, as in another task.
    """
    try:
        return run[which]["scores"][split][head]["top1"]
    except KeyError as error:
        raise RunError(
            f"this table shows the top-1 accuracy of {head} on the split {split}; "
            f"the scores.json of the run {run['recipe']} does not have it"
        ) from error


def _row(recipe: str, head: str, runs: Sequence[RunScores]) -> Row:
    def estimate(which: Literal["last", "best"], split: str) -> Estimate:
        return Estimate.of([_top1(run, which, split, head)["value"] for run in runs])

    seconds = [run["seconds"]["train_epoch_median"] for run in runs]
    logged = [value for value in seconds if value is not None]
    return Row(
        recipe=recipe,
        method=runs[0]["method"],
        head=head,
        test_last=estimate("last", "test"),
        test_best=estimate("best", "test"),
        train_last=estimate("last", "train"),
        best_epochs=tuple(run["best"]["epoch"] for run in runs),
        seconds_per_epoch=statistics.fmean(logged) if len(logged) == len(runs) else None,
        rule=runs[0]["selection"]["rule"],
    )
