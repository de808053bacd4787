"""Write docs/reproduction.md: the finished runs in results/runs/ beside the published figures.

    python benchmarks/reproduction.py

It trains nothing. benchmarks/gpu/ brings runs into results/runs/.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from report import machine, table
from selfkd.recipes.files import recipe_names
from selfkd.reports.comparison import Comparison
from selfkd.reports.published import ENOUGH_SEEDS, TOLERANCE, Figure, figures_of, is_unchanged
from selfkd.reports.results import Result, read_result
from selfkd.runs.run_folder import RunFolder
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
_NOTES = {
    "demo/digits/resnet18": "The papers have no figures for the digits. These trainings take some minutes on a CPU.",
    "dtskd/cifar100/resnet18+backbone.width=16+trainer.best_after_epoch=0+trainer.epochs=15": """\
**With this small budget the methods do not help as they do in the papers.** A network of a quarter of the width trains
for 15 epochs, with all methods in DTSKD's protocol. The papers train the full width for 200 or 300 epochs, each in its
own protocol. After so few epochs the network is underfitted, as its training accuracy shows, and a regulariser helps
only a network that can fit its training set. The table shows that the whole system works with real data, and what an
epoch costs. Golden values in the tests show that the methods are correct.
"""
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
    def of(cls, result: Result) -> Setting:
        """The setting of a run."""
        name, *overrides = result.recipe.name.split("+")
        protocol, backbone, _ = name.rsplit("/", 2)
        return cls(protocol, backbone, tuple(each for each in overrides if not each.startswith("method=")))

    @property
    def key(self) -> str:
        """Its key in `_NOTES`."""
        return "+".join((f"{self.protocol}/{self.backbone}", *self.overrides))


def page(results: Iterable[Result], names: Iterable[str], logs: Mapping[str, Any]) -> str:
    """The text of the page.

    Args:
        results: the finished runs.
        names: of all recipes of the package.
        logs: the curves of LOTH's authors, as in loth_logs.yaml.
    """
    results = sorted(results, key=lambda result: (Setting.of(result), result.recipe.name, result.seed))
    figures = [figure for name in names for figure in figures_of(name)]
    sections = [_introduction(figures, results)]
    for protocol, of_protocol in groupby(results, key=lambda result: Setting.of(result).protocol):
        sections.append(f"## {protocol}\n")
        for setting, runs in groupby(of_protocol, key=Setting.of):
            sections.append(_section(setting, list(runs)))
    unchanged: dict[str, list[Result]] = {}
    for result in results:
        if is_unchanged(result.recipe):
            unchanged.setdefault(result.recipe.name, []).append(result)
    curves = [
        _curve(name, logs["heads"], log, unchanged[name]) for name, log in logs["logs"].items() if name in unchanged
    ]
    if curves:
        sections += [
            "## LOTH's curves beside the authors' logs\n",
            f"{' '.join(logs['description'].split())}\n",
            *curves,
        ]
    return "\n".join([*sections, "Written by `python benchmarks/reproduction.py` from `results/runs/`.\n"])


def _introduction(figures: Sequence[Figure], results: Sequence[Result]) -> str:
    """What was run, in numbers counted from recipes and runs."""
    of_protocols = Counter(figure.recipe.rsplit("/", 2)[0] for figure in figures)
    counts = ", ".join(f"{count} of {protocol}" for protocol, count in of_protocols.items())
    unchanged = {result.recipe.name for result in results if is_unchanged(result.recipe)}
    run = sum(figure.recipe in unchanged for figure in figures)
    were_run = (
        f"We ran {run} of them at the papers' full budget, and not the others."
        if run
        else "**We have run none of them at the papers' full budget.**"
    )
    numbers = f"The recipes of this package have {len(figures)} published figures: {counts}. {were_run}"
    return (
        "\n\n".join(["# Published figures, and ours", *(textwrap.fill(text, 120) for text in (numbers, _HOW))]) + "\n"
    )


def _section(setting: Setting, results: Sequence[Result]) -> str:
    """The comparison of the runs of one setting, and the commands that repeat them."""
    recipes = list({result.recipe.name: result.recipe for result in results}.values())
    recipes.sort(key=lambda recipe: (recipe.parts["method"] != "plain", recipe.parts["method"]))
    comparison = Comparison.of(recipes, results, baseline=recipes[0].name)
    heading = f"### {setting.backbone}" + (f" with {', '.join(setting.overrides)}" if setting.overrides else "")
    machines = "; ".join(dict.fromkeys(machine(result.environment) for result in results))
    parts = [
        heading,
        _NOTES.get(setting.key, ""),
        comparison.to_markdown(),
        f"Trained on: {machines}.",
        _commands(results),
    ]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def _commands(results: Sequence[Result]) -> str:
    """The commands that train these runs again: one for each set of overrides."""
    recipes: dict[tuple[str, ...], dict[str, None]] = {}
    for result in results:
        name, *overrides = result.recipe.name.split("+")
        recipes.setdefault(tuple(overrides), {})[name] = None
    seeds = ",".join(map(str, sorted({result.seed for result in results})))
    words = f"--seeds {seeds}" if "," in seeds else f"seed={seeds}"  # one number after --seeds counts seeds
    root = ["data.root=DATA_ROOT"] if "root" in results[0].recipe.options["data"] else []
    lines = [
        " ".join(["    selfkd compare", *names, *overrides, *root, words])
        for overrides, names in recipes.items()
    ]
    return "\n".join(["To repeat it:\n", *lines])


def _curve(name: str, heads: Sequence[str], log: Mapping[str, Any], results: Sequence[Result]) -> str:
    """The authors' log of one network, and our mean over the seeds behind each number."""
    rows = list(zip(*(read_epoch_log(result.folder.metrics_file) for result in results), strict=True))
    ours = {
        head: {int(runs[0]["epoch"]): statistics.fmean(run[f"test/top1/{head}"] for run in runs) for runs in rows}
        for head in heads
    }
    last_ten = sorted(ours[heads[0]])[-10:]
    lines = [
        *((f"{epoch}", theirs, [ours[head][epoch] for head in heads]) for epoch, theirs in log["epochs"].items()),
        (
            "mean of the last 10",
            log["mean_of_last_10"],
            [statistics.fmean(ours[head][epoch] for epoch in last_ten) for head in heads],
        ),
        ("best of each head", log["own_best"], [max(ours[head].values()) for head in heads]),
    ]
    cells = [
        [title, *(f"{each:.2f} / {our:.2f}" for each, our in zip(theirs, ours_too, strict=True))]
        for title, theirs, ours_too in lines
    ]
    seeds = ", ".join(str(result.seed) for result in results)
    return f"### {name}\n\nAuthors / ours (mean over the seeds {seeds}).\n\n{table(cells, ['epoch', *heads])}\n"


def kept_results() -> list[Result]:
    """The runs in results/runs/."""
    folders = [RunFolder(file.parent) for file in sorted(RUNS.rglob("scores.json"))]
    return [read_result(folder.recipe(), folder) for folder in folders]


def page_of_the_repository() -> str:
    """The page of the kept runs and the package's recipes."""
    with contextlib.chdir(ROOT):  # the page names the folders relative to it
        return page(kept_results(), recipe_names(), yaml.safe_load(LOTH_LOGS.read_text(encoding="utf-8")))


def main() -> int:
    PAGE.write_text(page_of_the_repository(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
