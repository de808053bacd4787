"""Write docs/reproduction.md from the records in results/gpu/ and the recipes' published figures.

python benchmarks/gpu/reproduction.py
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml
from queue_items import read_queue
from run_records import ROOT, read_records
from tabulate import tabulate

from selfkd.methods import method_class
from selfkd.recipes.files import read_recipe, recipe_names
from selfkd.reports.seed_table import Estimate

PAGE = ROOT / "docs" / "reproduction.md"
LOTH_LOGS = Path(__file__).resolve().parent / "loth_logs.yaml"
TOLERANCE = 0.3
NOT_RUN = "not run"
BY_THEMSELVES = frozenset({"fusion"})
"""Heads whose own best epoch is reported, as LOTH does; of all others the scores at the best epoch of main."""

_INTRODUCTION = """\
# The papers' CIFAR-100 figures, and ours

Top-1 accuracy in percent on the 10,000 test images, at the papers' full schedules. *Ours, last* is after the last
epoch. *Ours, selected* is from the epoch that was chosen like the epoch of the published figure; each table says how.
An epoch that was chosen on the test set is good for comparing with the paper, and too high as an estimate of accuracy.
If there are several seeds, ± is the 95 % interval of their mean. A figure is *reproduced* if ours, selected, is within
{tolerance} of it, else ours is *above* or *below*; *{not_run}* says that there is no run yet. Time and memory are not
measured here.

{summary}
"""


@dataclass(frozen=True)
class Figure:
    """A published accuracy: of a head of a recipe, in percent."""

    recipe: str
    head: str
    value: float
    source: str
    reduce: str
    selection: str


@dataclass(frozen=True)
class Cell:
    """A figure beside ours.

    Args:
        figure: published.
        last: ours after the last epoch; None if not run.
        selected: ours, selected as the figure was; None if not run.
        seeds: that were run.
    """

    figure: Figure
    last: Estimate | None
    selected: Estimate | None
    seeds: tuple[int, ...]

    @property
    def verdict(self) -> str:
        """Reproduced, above, below or not run."""
        if self.selected is None:
            return NOT_RUN
        difference = round(self.selected.mean - self.figure.value, 6)
        if abs(difference) <= TOLERANCE:
            return "reproduced"
        return "above" if difference > 0 else "below"


def published_figures(recipes: Iterable[str]) -> Iterator[Figure]:
    """Every published figure, in the order of the grids."""
    for name in recipes:
        published = read_recipe(name).get("published")
        if not published:
            continue
        selected = (published["reduce"], published["selection"])
        yield Figure(name, published["head"], published["value"], published["source"], *selected)
        source = published.get("other_heads_source", published["source"])
        for head, value in published.get("other_heads", {}).items():
            yield Figure(name, head, value, source, *selected)


def cell_of(figure: Figure, records: Sequence[Mapping[str, Any]]) -> Cell:
    """A figure beside the runs of its recipe, which may be none."""
    if not records:
        return Cell(figure, None, None, ())
    return Cell(
        figure,
        Estimate.of([_last(record, figure.head) for record in records]),
        Estimate.of([rule_of(figure)(record, figure.head) for record in records]),
        tuple(record["scores"]["seed"] for record in records),
    )


def rule_of(figure: Figure) -> Callable[[Mapping[str, Any], str], float]:
    """How a run's accuracy is selected as the figure was; a function of record and head.

    Raises: ValueError: if the figure's `selection` does not begin with a rule known here.
    """
    rule = figure.selection.split(maxsplit=1)[0].rstrip(",")
    if rule not in _RULES:
        raise ValueError(f"{figure.recipe}: selection {figure.selection!r} must begin with {' or '.join(_RULES)}")
    return _RULES[rule]


def _last(record: Mapping[str, Any], head: str) -> float:
    value: float = record["scores"]["last"]["scores"]["test"][head]["top1"]["value"]
    return value


def _best_on_test(record: Mapping[str, Any], head: str) -> float:
    scores = record["scores"]
    rule = scores["selection"]
    if rule["rule"] != "best-on-test":
        raise ValueError(f"{scores['recipe']} seed {scores['seed']} chose its best epoch by {rule['rule']}")
    value: float = scores["best"]["scores"]["test"][head]["top1"]["value"]
    if head in BY_THEMSELVES:
        value = max(row[f"test/top1/{head}"] for row in record["epochs"] if row["epoch"] > rule["after_epoch"])
    return value


_RULES = {"best-on-test": _best_on_test, "last": _last}


def page(
    records: Iterable[Mapping[str, Any]], recipes: Iterable[str], logs: Mapping[str, Any], queued: Collection[str] = ()
) -> str:
    """The documentation page.

    Args:
        records: of finished runs.
        recipes: all names.
        logs: of LOTH's authors, as loth_logs.yaml has them.
        queued: names of the recipes that the queue trains.
    """
    runs: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        runs.setdefault(record["scores"]["recipe"], []).append(record)
    for of_recipe in runs.values():
        of_recipe.sort(key=lambda record: record["scores"]["seed"])
    cells = [cell_of(figure, runs.get(figure.recipe, [])) for figure in published_figures(recipes)]
    introduction = _INTRODUCTION.format(tolerance=TOLERANCE, not_run=NOT_RUN, summary=_summary(cells, queued))
    sections = [introduction]
    for protocol, group in groupby(cells, key=lambda cell: cell.figure.recipe.rsplit("/", 2)[0]):
        sections.append(_section(protocol, list(group)))
    sections.append("## LOTH's curves beside the authors' logs\n")
    sections.append(f"{' '.join(logs['description'].split())}\n")
    sections += [_curve(name, logs["heads"], log, runs.get(name, [])) for name, log in logs["logs"].items()]
    sections.append(f"{_machines(runs)}Written by `python benchmarks/gpu/reproduction.py` from `results/gpu/`.\n")
    return "\n".join(sections)


def _summary(cells: Sequence[Cell], queued: Collection[str]) -> str:
    verdicts = [cell.verdict for cell in cells]
    if all(verdict == NOT_RUN for verdict in verdicts):
        waiting = sum(cell.figure.recipe in queued for cell in cells)
        return (
            f"**None of the {len(cells)} figures has been run at full size yet.** {waiting} of them wait in the queue "
            f"in `benchmarks/gpu/`.{_second_networks(cells, queued)}"
        )
    counts = {verdict: verdicts.count(verdict) for verdict in ("reproduced", "above", "below", NOT_RUN)}
    return f"Of {len(cells)} figures: {', '.join(f'{count} {verdict}' for verdict, count in counts.items())}."


def _second_networks(cells: Sequence[Cell], queued: Collection[str]) -> str:
    """A sentence on the recipes that train with a teacher or a peer, if the queue has none of them."""
    needs = {name: method_class(read_recipe(name)["method"]).needs for name in {cell.figure.recipe for cell in cells}}
    second = {name for name, each in needs.items() if each.teacher or each.peer}
    return " Recipes with a second network are not queued." if second and not second & set(queued) else ""


def _section(protocol: str, cells: Sequence[Cell]) -> str:
    """The table of one protocol, with how its figures were taken."""
    rows = [
        {
            "backbone/method": cell.figure.recipe.removeprefix(f"{protocol}/"),
            "head": cell.figure.head,
            "published": f"{cell.figure.value:.2f}",
            "ours, last": NOT_RUN if cell.last is None else str(cell.last),
            "ours, selected": NOT_RUN if cell.selected is None else str(cell.selected),
            "seeds": ", ".join(map(str, cell.seeds)) or "none",
            "verdict": cell.verdict,
            "source": cell.figure.source,
        }
        for cell in cells
    ]
    rules = dict.fromkeys(f"{cell.figure.reduce}; {cell.figure.selection}" for cell in cells)
    table = tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True)
    return f"## {protocol}\n\nPublished: {' / '.join(rules)}.\n\n{table}\n"


def _curve(name: str, heads: Sequence[str], log: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> str:
    """The authors' log of one network, and our accuracy behind each number where there are runs."""
    ours: dict[str, list[float]] = {}
    if runs:
        curves = {head: _mean_curve(runs, head) for head in heads}
        ours = {f"{epoch}": [curves[head][epoch] for head in heads] for epoch in log["epochs"]}
        last_ten = sorted(curves[heads[0]])[-10:]
        ours["mean of the last 10"] = [statistics.fmean(curves[head][epoch] for epoch in last_ten) for head in heads]
        ours["best of each head"] = [max(curves[head].values()) for head in heads]
    published = {f"{epoch}": values for epoch, values in log["epochs"].items()}
    published |= {"mean of the last 10": log["mean_of_last_10"], "best of each head": log["own_best"]}
    rows = [
        [title]
        + [f"{theirs:.2f}" + (f" / {ours[title][column]:.2f}" if runs else "") for column, theirs in enumerate(values)]
        for title, values in published.items()
    ]
    seeds = ", ".join(str(run["scores"]["seed"]) for run in runs)
    heading = f"Authors / ours, seeds {seeds}, mean over them." if runs else f"Authors'; ours: {NOT_RUN}."
    table = tabulate(rows, ["epoch", *heads], tablefmt="github", disable_numparse=True)
    return f"### {name}\n\n{heading}\n\n{table}\n"


def _mean_curve(runs: Sequence[Mapping[str, Any]], head: str) -> dict[int, float]:
    """Test accuracy by epoch, mean over the runs."""
    rows = zip(*(run["epochs"] for run in runs), strict=True)
    return {int(epoch[0]["epoch"]): statistics.fmean(row[f"test/top1/{head}"] for row in epoch) for epoch in rows}


def _machines(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    environments = [record["environment"] for of_recipe in runs.values() for record in of_recipe]
    devices = sorted({f"{e['device']}, torch {e['packages']['torch']}" for e in environments})
    return f"Trained on: {'; '.join(devices)}. " if devices else ""


def page_of_results() -> str:
    """The page as the repository's records and recipes have it."""
    logs = yaml.safe_load(LOTH_LOGS.read_text(encoding="utf-8"))
    items, _ = read_queue()
    return page(read_records(), recipe_names(), logs, {item.recipe for item in items})


def main() -> int:
    PAGE.write_text(page_of_results(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
