"""The figures that papers published, ours selected as they were, and the verdict."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from selfkd.recipes.files import read_recipe, recipe_names
from selfkd.recipes.grid import name_of_heads
from selfkd.recipes.reader import resolve
from selfkd.recipes.recipe import WITHOUT_EFFECT, Recipe, differences
from selfkd.reports.short_names import without_overrides
from selfkd.runs.records import mean_top1_of
from selfkd.runs.run_folder import RunFolder
from selfkd.training.epoch_log import read_epoch_log

__all__ = [
    "ENOUGH_SEEDS",
    "TOLERANCE",
    "Figure",
    "Verdict",
    "VerdictKind",
    "figures_for",
    "figures_of",
    "is_unchanged",
    "rule_of",
    "selected",
    "verdict",
]

ENOUGH_SEEDS = 3
"""Runs with different seeds that a verdict needs."""
TOLERANCE = 0.3
"""Points by which the mean of our runs may always differ from a figure that it reproduces."""

VerdictKind = Literal["reproduced", "not reproduced", "too few seeds", "another budget"]
Rule = Literal["best-on-test", "last"]

_RULES: tuple[Rule, ...] = ("best-on-test", "last")
_METRIC = "top1"
_OF_THE_FIGURE = ("data", "backbone", "method")
_ROUNDING = 9  # decimals; 80.76 - 80.46 in floating point is larger than 0.3


@dataclass(frozen=True)
class Figure:
    """A published top-1 accuracy on the test set.

    Args:
        recipe: name of the recipe that reproduces it.
        heads: the head that reached it, "main" for the deployed one; or several, the mean of whose accuracies it is.
        value: the accuracy in percent.
        std: the published standard deviation in points; None if the paper gives none.
        source: the table of the paper.
        reduce: how the paper made one figure of its runs, such as "mean of 3 runs".
        selection: which epoch the paper reports. The first word is the rule: "best-on-test" or "last".
    """

    recipe: str
    heads: tuple[str, ...]
    value: float
    std: float | None
    source: str
    reduce: str
    selection: str

    @property
    def head(self) -> str:
        """The name of its heads in a table: "main", or "mean of main, branch1"."""
        return name_of_heads(self.heads)


@dataclass(frozen=True)
class Verdict:
    """Our runs beside a published figure.

    Args:
        kind: what the comparison says.
        difference: our mean minus the published value, in points; None where the two cannot be compared.
        words: the verdict as a table shows it.
    """

    kind: VerdictKind
    difference: float | None
    words: str


@functools.cache
def figures_of(name: str) -> tuple[Figure, ...]:
    """The published figures of a recipe, that of its main head, or of the mean over its heads, first.

    Args:
        name: name of the recipe, without overrides.
    Returns: no figures if there are none, or if the package has no such recipe.
    """
    published = read_recipe(name).get("published") if name in recipe_names() else None
    if not published:
        return ()
    source, reduce, selection = published["source"], published["reduce"], published["selection"]
    heads = tuple(published["heads"])
    main = Figure(name, heads, published["value"], published.get("std"), source, reduce, selection)
    source_of_others = published.get("other_heads_source", source)
    others = published.get("other_heads", {}).items()
    return (main, *(Figure(name, (head,), value, None, source_of_others, reduce, selection) for head, value in others))


def figures_for(recipe: Recipe) -> tuple[Figure, ...]:
    """The published figures that stand beside a run: those of the package's recipe of its name, overrides left out.

    Args:
        recipe: the run's recipe.
    Returns: no figures if an override replaced the data set, the network or the method, which are then not the paper's.
    """
    name = without_overrides(recipe)
    figures = figures_of(name)
    if not figures or any(recipe.parts[section] != read_recipe(name)[section] for section in _OF_THE_FIGURE):
        return ()
    return figures


def is_unchanged(recipe: Recipe) -> bool:
    """Whether a run's recipe has the options of the package's recipe of its name.

    The seed, options of the machine and those `WITHOUT_EFFECT` may differ.
    """
    name = without_overrides(recipe)
    if name not in recipe_names():
        return False
    packaged, ours = (
        {key: value for key, value in each.flat().items() if key != "name" and key not in WITHOUT_EFFECT}
        for each in (resolve(name, {"seed": recipe.seed}), recipe)
    )
    return not differences(packaged, ours)


def rule_of(figure: Figure) -> Rule:
    """The rule that chose the epoch of a figure.

    Raises: ValueError: if its `selection` does not begin with a known rule.
    """
    first = figure.selection.split(maxsplit=1)[0].rstrip(",")
    for rule in _RULES:
        if first == rule:
            return rule
    raise ValueError(f"{figure.recipe}: selection {figure.selection!r} must begin with {' or '.join(_RULES)}")


def selected(figure: Figure, folder: RunFolder) -> float | None:
    """A finished run's accuracy in percent, of the heads and at the epoch that the figure is of.

    "best-on-test" is the epoch where the main head was best. Where the paper reports a head "at its own" best epoch, as
    LOTH does for `fusion`, it is the epoch where that head was best. The accuracies of several heads are averaged.

    Returns: None if the run did not choose its best epoch so, did not log its epochs, or lacks one of the heads.
    Raises: RunError: if a file of the run is damaged. CheckpointError: if its metrics.csv is.
    """
    scores = folder.scores()
    if rule_of(figure) == "last":
        return mean_top1_of(scores["last"], figure.heads)
    rule = scores["selection"]
    if rule["rule"] != "best-on-test" or rule.get("metric", _METRIC) != _METRIC:
        return None
    if f"{figure.head} at its own" not in figure.selection:
        return mean_top1_of(scores["best"], figure.heads)
    columns = [f"test/{_METRIC}/{head}" for head in figure.heads]
    rows = [row for row in read_epoch_log(folder.metrics_file) if row["epoch"] > rule["after_epoch"]]
    means = (statistics.fmean(row[column] for column in columns) for row in rows if row.keys() >= set(columns))
    return max(means, default=None)


def verdict(figure: Figure, ours: Sequence[float], unchanged: bool) -> Verdict:
    """Whether our runs reproduce a published figure.

    They do if there are at least 3 seeds of the unchanged recipe, and their mean differs from the figure by at most 0.3
    points or two of their standard deviations, whichever is larger.

    Args:
        figure: the published figure.
        ours: the accuracy in percent of one run for each seed, as `selected` gives it.
        unchanged: whether the runs have all options of the recipe; options of the machine may differ.
    """
    if not unchanged:
        return Verdict("another budget", None, "another budget (not comparable)")
    difference = round(statistics.fmean(ours) - figure.value, _ROUNDING) if ours else None
    if difference is None or len(ours) < ENOUGH_SEEDS:
        return Verdict("too few seeds", difference, f"too few seeds ({len(ours)} of {ENOUGH_SEEDS})")
    if abs(difference) <= max(TOLERANCE, 2 * statistics.stdev(ours)):
        return Verdict("reproduced", difference, "reproduced")
    side = "above" if difference > 0 else "below"
    return Verdict("not reproduced", difference, f"not reproduced: {abs(difference):.2f} {side}")
