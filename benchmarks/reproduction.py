"""Write docs/reproduction.md: the finished runs in results/runs/ beside the published figures.

    python benchmarks/reproduction.py

It trains nothing. benchmarks/gpu/ brings runs into results/runs/.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import textwrap
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from report import machine, table
from selfkd.recipes.files import recipe_names
from selfkd.reports.compare import compare_outcomes
from selfkd.reports.published import ENOUGH_SEEDS, TOLERANCE, Figure, figures_of, is_unchanged
from selfkd.reports.short_names import without_overrides
from selfkd.runs.records import read_record
from selfkd.runs.run_folder import RunFolder
from selfkd.runs.several import TrainingOutcome
from selfkd.training.epoch_log import read_epoch_log

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reproduction.md"
RUNS = Path("results/runs")
"""Relative to ROOT, as the page shows it."""
LOTH_LOGS = Path(__file__).resolve().parent / "loth_logs.yaml"

_HOW = f"""\
A published figure stands beside ours: the accuracy of the same head, at an epoch that was selected in the same way. It
is *reproduced* if at least {ENOUGH_SEEDS} runs of the unchanged recipe with different seeds have a mean that is at most
{TOLERANCE} points away, or two of their standard deviations if that is more. If it is not, the table says how far ours
is above or below. It says *another budget* if our runs changed the recipe; such runs cannot be compared with the paper.
[docs/compare.md](compare.md) explains the tables."""
_REPEAT = """\
These commands train the runs again. `python benchmarks/reproduction.py` makes the tables from the runs in
`results/runs/`.
"""
_NOTES = {
    "demo/digits/resnet18": """\
The papers have no figures for the digits. These trainings take some minutes on a CPU. Other programs ran at the same
time, so the times say little.
""",
    "dtskd/cifar100/resnet18+backbone.width=16+trainer.best_after_epoch=0+trainer.epochs=15": """\
**With this small budget the methods do not help as they do in the papers.** A network of a quarter of the width trains
for 15 epochs, with all methods in DTSKD's protocol. The papers train the full width for 200 or 300 epochs, each in its
own protocol. After so few epochs the network is underfitted, as its training accuracy shows, and a regulariser helps
only a network that can fit its training set. The table shows that the whole system works with real data, and what an
epoch costs. Golden values in the tests show that the methods are correct.
""",
}


class Setting(NamedTuple):
    """What the runs of one table have in common.

    Args:
        protocol: whose protocol, and on which data set: "dtskd/cifar100".
        backbone: name of the network in the recipes' names.
        overrides: what differs from the package's recipes, method apart; empty if nothing does.
    """

    protocol: str
    backbone: str
    overrides: tuple[str, ...]

    @classmethod
    def of(cls, run: TrainingOutcome) -> Setting:
        """The setting of a run."""
        name, *overrides = run.recipe.name.split("+")
        protocol, backbone, _ = name.rsplit("/", 2)
        return cls(protocol, backbone, tuple(each for each in overrides if not each.startswith("method=")))

    @property
    def key(self) -> str:
        """Its key in `_NOTES`."""
        return "+".join((f"{self.protocol}/{self.backbone}", *self.overrides))


def page(runs: Iterable[TrainingOutcome], names: Iterable[str], logs: Mapping[str, Any]) -> str:
    """The text of the page.

    Args:
        runs: the finished runs.
        names: names of all recipes of the package.
        logs: the curves of LOTH's authors, as in loth_logs.yaml.
    """
    runs = sorted(runs, key=lambda run: (Setting.of(run), _order(run)))
    unchanged: dict[str, list[TrainingOutcome]] = {}
    for run in runs:
        if is_unchanged(run.recipe):
            unchanged.setdefault(without_overrides(run.recipe), []).append(run)
    sections = [_introduction([figure for name in names for figure in figures_of(name)], unchanged)]
    for protocol, of_protocol in groupby(runs, key=lambda run: Setting.of(run).protocol):
        sections.append(f"## {protocol}\n")
        sections += [_section(setting, list(alike)) for setting, alike in groupby(of_protocol, key=Setting.of)]
    curves = [
        _curve(name, logs["heads"], log, unchanged[name]) for name, log in logs["logs"].items() if name in unchanged
    ]
    if curves:
        description = " ".join(logs["description"].split())
        sections += ["## LOTH's curves beside the authors' logs\n", f"{description}\n", *curves]
    return "\n".join([*sections, "Written by `python benchmarks/reproduction.py` from `results/runs/`.\n"])


def _order(run: TrainingOutcome) -> tuple[bool, str, int]:
    """Plain training first, then by method and by seed."""
    return run.recipe.parts["method"] != "plain", run.recipe.parts["method"], run.recipe.seed


def _introduction(figures: Sequence[Figure], unchanged: Collection[str]) -> str:
    """What was run, in numbers that are counted from the recipes and the runs.

    Args:
        figures: all published figures.
        unchanged: names of the recipes that were run without a change.
    """
    of_protocols = Counter(figure.recipe.rsplit("/", 2)[0] for figure in figures)
    counts = ", ".join(f"{count} of {protocol}" for protocol, count in of_protocols.items())
    run_figures = [figure.recipe for figure in figures if figure.recipe in unchanged]
    recipes = ", ".join(dict.fromkeys(f"`{name}`" for name in run_figures))
    run = (
        f"We ran {len(run_figures)} of them at the papers' full budget, and not the others: those of {recipes}."
        if run_figures
        else "**We have run none of them at the papers' full budget.**"
    )
    numbers = f"The recipes of this package have {len(figures)} published figures: {counts}. {run}"
    paragraphs = [textwrap.fill(text, 120) for text in (numbers, _HOW)]
    return "\n\n".join(["# Published figures, and ours", *paragraphs]) + "\n"


def _section(setting: Setting, runs: Sequence[TrainingOutcome]) -> str:
    """The comparison of the runs of one setting, and the commands that repeat them."""
    heading = f"### {setting.backbone}" + (f" with {', '.join(setting.overrides)}" if setting.overrides else "")
    tables = compare_outcomes(runs, "main", runs[0].recipe.name, trained=False).to_markdown()
    machines = "; ".join(dict.fromkeys(machine(read_record(run.folder.environment_file)) for run in runs))
    parts = [heading, _NOTES.get(setting.key, ""), tables, f"Trained on: {machines}.", _commands(runs)]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def _commands(runs: Sequence[TrainingOutcome]) -> str:
    """The commands that train these runs again: one for each set of overrides."""
    names: dict[tuple[str, ...], dict[str, None]] = {}
    for run in runs:
        name, *overrides = run.recipe.name.split("+")
        names.setdefault(tuple(overrides), {})[name] = None
    seeds = ",".join(map(str, sorted({run.recipe.seed for run in runs})))
    words = f"--seeds {seeds}" if "," in seeds else f"seed={seeds}"  # one number after --seeds counts seeds
    root = ["data.root=DATA_ROOT"] if "root" in runs[0].recipe.options["data"] else []
    lines = [" ".join(["    selfkd compare", *each, *overrides, *root, words]) for overrides, each in names.items()]
    return "\n".join([_REPEAT, *lines])


def _curve(name: str, heads: Sequence[str], log: Mapping[str, Any], runs: Sequence[TrainingOutcome]) -> str:
    """The authors' log of one network, and our mean over the seeds behind each number."""
    rows = list(zip(*(read_epoch_log(run.folder.metrics_file) for run in runs), strict=True))
    ours = {
        head: {int(epoch[0]["epoch"]): statistics.fmean(row[f"test/top1/{head}"] for row in epoch) for epoch in rows}
        for head in heads
    }
    last_ten = sorted(ours[heads[0]])[-10:]
    mean_of_last_ten = [statistics.fmean(ours[head][epoch] for epoch in last_ten) for head in heads]
    lines = [
        *((f"{epoch}", theirs, [ours[head][epoch] for head in heads]) for epoch, theirs in log["epochs"].items()),
        ("mean of the last 10", log["mean_of_last_10"], mean_of_last_ten),
        ("best of each head", log["own_best"], [max(ours[head].values()) for head in heads]),
    ]
    cells = [
        [title, *(f"{their:.2f} / {our:.2f}" for their, our in zip(theirs, our_values, strict=True))]
        for title, theirs, our_values in lines
    ]
    seeds = ", ".join(str(run.recipe.seed) for run in runs)
    return f"### {name}\n\nAuthors / ours (mean over the seeds {seeds}).\n\n{table(cells, ['epoch', *heads])}\n"


def kept_runs() -> list[TrainingOutcome]:
    """The runs in results/runs/."""
    folders = [RunFolder(file.parent) for file in sorted(RUNS.rglob("scores.json"))]
    return [TrainingOutcome(folder.recipe(), folder, None) for folder in folders]


def page_of_the_repository() -> str:
    """The page of the kept runs and the package's recipes."""
    with contextlib.chdir(ROOT):  # the page names the folders relative to it
        return page(kept_runs(), recipe_names(), yaml.safe_load(LOTH_LOGS.read_text(encoding="utf-8")))


def main() -> int:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    PAGE.write_text(page_of_the_repository(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
