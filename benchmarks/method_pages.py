"""Write what the pages say of the methods, from their signatures, the recipes and `results/method_counts.json`.

    python benchmarks/method_pages.py

It writes the file that `selfkd list methods` reads, and in README.md and docs/methods/ the sections between a comment
that names this command and `<!-- end -->`. It counts nothing: `benchmarks/method_counts.py` does.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from report import table
from selfkd.atomic_files import written_whole
from selfkd.methods import METHODS, method_class
from selfkd.methods.listing import GROUPS, OVERVIEW, ListedMethod, PublishedGain, list_methods
from selfkd.methods.not_specifiable import NOT_SPECIFIABLE
from selfkd.recipes.files import read_recipe, recipe_names
from selfkd.recipes.part_options import options_of
from selfkd.recipes.values import written
from selfkd.reports.published import Figure, figures_of

ROOT = Path(__file__).resolve().parent.parent
COUNTS = ROOT / "results" / "method_counts.json"
OVERVIEW_FILE = ROOT / "src" / "selfkd" / "methods" / OVERVIEW
README = ROOT / "README.md"
CARDS = ROOT / "docs" / "methods"
PAGE = CARDS / "README.md"

_PLAIN, _DEPLOYED = "plain", "main"
_NETWORK = "resnet18"
"""The network of the published gains: all papers have it."""
_DATASETS = {"cifar100": "CIFAR-100", "tiny_imagenet": "Tiny-ImageNet", "imagenet": "ImageNet"}
_FIRST_DATASET = next(iter(_DATASETS))
_TABLE = "Table"
_WIDTH = 120
MARK = "<!-- {}: written by benchmarks/method_pages.py -->\n"
_END = "<!-- end -->"


def overview() -> dict[str, dict[str, Any]]:
    """The content of the file that `selfkd list methods` reads."""
    counts = json.loads(COUNTS.read_text(encoding="utf-8"))["methods"]
    plain = counts[_PLAIN]["multiply_adds"]
    return {
        name: {
            "group": method_class(name).group,
            "needs": count["needs"],
            "heads": count["heads"],
            "exits": count["exits"],
            "extra_parameters": count["extra_parameters"],
            "relative_multiply_adds": round(count["multiply_adds"] / plain, 4),
            "images_per_sample": count["images_per_sample"],
            "published": _gains(name),
        }
        for name, count in counts.items()
    }


def _gains(method: str) -> list[dict[str, Any]]:
    """The published figures that stand beside one of plain training in the same protocol, those on CIFAR-100 first."""
    recipes = [name for name in recipe_names() if _split(name)[1:] == (_NETWORK, method) and figures_of(name)]
    gains = []
    for recipe in sorted(recipes, key=lambda name: _place(_split(name)[0])):
        figure = figures_of(recipe)[0]
        if plain := _plain(figure):
            gains.append(
                {
                    "recipe": recipe,
                    "source": figure.source,
                    "head": figure.head,
                    "top1": figure.value,
                    "plain": plain.value,
                }
            )
    return gains


def overview_text() -> str:
    """The text of the file that `selfkd list methods` reads."""
    return json.dumps(overview(), indent=1) + "\n"


def pages() -> dict[Path, Mapping[str, Callable[[], str]]]:
    """The pages with written sections: for each section, the function that gives its text."""
    cards = {
        CARDS / f"{name}.md": {"options": partial(options_section, name), "figures": partial(figures_section, name)}
        for name in METHODS
    }
    return {README: {"overview": _short_overview}, PAGE: {"overview": _whole_overview}, **cards}


def rendered(page: Path) -> str:
    """The text of a page with its sections written anew.

    Raises: ValueError: if the page has no place for a section.
    """
    text = page.read_text(encoding="utf-8")
    for section, write_section in pages()[page].items():
        mark = MARK.format(section)
        before, found_mark, rest = text.partition(mark)
        _, found_end, after = rest.partition(_END)
        if not (found_mark and found_end):
            raise ValueError(f"{page} has no lines '{mark.strip()}' and '{_END}'")
        text = f"{before}{mark}\n{write_section()}\n\n{_END}{after}"
    return text


def _short_overview() -> str:
    """The table of README.md."""
    rows = [
        [
            f"[`{name}`](docs/methods/{name}.md)",
            method.group,
            method.summary,
            method.parameters_in_words,
            method.multiply_adds_in_words,
            gains_in_words(_on_first_dataset(method.published) or method.published),
        ]
        for name, method in _by_group()
    ]
    rows += [
        [f"`{name}`", method.group, f"{method.paper}; not specifiable: {method.reason}", "", "", ""]
        for name, method in NOT_SPECIFIABLE.items()
    ]
    return table(rows, ["method", "group", "idea", "parameters", "multiply-adds", "published gain"])


def _whole_overview() -> str:
    """The table of docs/methods/README.md, and what the groups are."""
    rows = [
        [
            f"[`{name}`]({name}.md)",
            method.group,
            method.needs_in_words,
            method.parameters_in_words,
            method.multiply_adds_in_words,
            "N" if method.images_per_sample == 1 else f"{method.images_per_sample} N",
            _exits_in_words(method.exits),
            gains_in_words(_on_first_dataset(method.published)),
            gains_in_words([gain for gain in method.published if gain.dataset != _FIRST_DATASET]),
        ]
        for name, method in _by_group()
    ]
    header = ["method", "group", "needs", "parameters", "multiply-adds", "images per epoch", "deployed"]
    header += [f"gain, {_DATASETS[_FIRST_DATASET]}", "gain, other data"]
    empty = [""] * (len(header) - 3)
    rows += [
        [f"`{name}`", method.group, f"not specifiable: {method.reason}", *empty]
        for name, method in NOT_SPECIFIABLE.items()
    ]
    groups = [f"- {group}: {meaning}." for group, meaning in GROUPS.items()]
    return "\n".join([table(rows, header), "", "The groups:", "", *groups])


def _by_group() -> list[tuple[str, ListedMethod]]:
    """The methods that were counted, those of a group together."""
    order = list(GROUPS)
    counted = [(name, method) for name, method in list_methods().items() if method.group]
    return sorted(counted, key=lambda item: order.index(item[1].group))


def _on_first_dataset(gains: Iterable[PublishedGain]) -> list[PublishedGain]:
    return [gain for gain in gains if gain.dataset == _FIRST_DATASET]


def gains_in_words(gains: Iterable[PublishedGain]) -> str:
    """`+4.74 (TESKD)`.

    Also named are the data set if it is another than CIFAR-100, the heads if it is not main alone, and the table if
    several gains are of one paper and data set.
    """
    gains = list(gains)
    papers = [(_paper_and_place(gain.source)[0], gain.dataset) for gain in gains]
    words = []
    for gain, (paper, dataset) in zip(gains, papers, strict=True):
        source = paper if papers.count((paper, dataset)) == 1 else gain.source
        where = "" if dataset == _FIRST_DATASET else f", {_DATASETS.get(dataset, dataset)}"
        of = "" if gain.head == _DEPLOYED else f", {gain.head}"
        words.append(f"{gain.points:+.2f} ({source}{where}{of})")
    return ", ".join(words)


def _paper_and_place(source: str) -> tuple[str, str]:
    """The paper and the place in it: ("DTSKD", "Table 1").

    Raises: ValueError: if a source does not name both.
    """
    paper, _, place = source.partition(", ")
    if not (paper and place):
        raise ValueError(f"source {source!r} must be '<paper>, <place>'")
    return paper, place


def _exits_in_words(exits: Sequence[str]) -> str:
    """What can be deployed."""
    shallow = [exit_ for exit_ in exits if exit_ != _DEPLOYED]
    return f"the network, or exits {shallow[0]} to {shallow[-1]}" if shallow else "the network"


def options_section(name: str) -> str:
    """The options of a method, and the sections that it takes."""
    keys = {key: option for key, option in options_of({"method": name}).items() if key.startswith("method.")}
    lines = [
        _filled(f"- `{key}={written(option.default)}`: {option.meaning_in_recipes}") for key, option in keys.items()
    ]
    options = "\n".join(lines) if lines else "The method has no options of its own."
    return f"{options}\n\n{_filled(' '.join(_sections(name)), indent='')}"


def _sections(name: str) -> list[str]:
    """Which sections of a recipe the method takes, in sentences."""
    method = method_class(name)
    taken = inspect.signature(method).parameters
    sentences = []
    if "teacher" in taken:
        sentences.append("A recipe needs the section [`teacher`](../recipes.md#a-teacher).")
    if "peer" in taken:
        sentences.append("The section [`peer`](../recipes.md#a-peer) names the second network.")
    supervision = "[`supervision`](../recipes.md#supervision)"
    if "supervision" in taken:
        sentences.append(f"The section {supervision} replaces the labels.")
    else:
        sentences.append(f"The method takes no {supervision}: {method.refused['supervision']}.")
    return sentences


def figures_section(name: str) -> str:
    """The published figures of a method, from its recipes, with those of plain training beside them."""
    own = [
        figure for recipe in recipe_names() if read_recipe(recipe)["method"] == name for figure in figures_of(recipe)
    ]
    if not own:
        return "The papers of the recipes publish no figure of this method."
    grids = groupby(sorted(own, key=_order), key=lambda figure: _split(figure.recipe)[0])
    tables = [grid_tables(grid, list(figures)) for grid, figures in grids]
    spread = "; ± is the standard deviation of the runs" if any(figure.std is not None for figure in own) else ""
    return "\n\n".join([f"Top-1 accuracy on the test set, in percent{spread}.", *tables])


def _split(recipe: str) -> tuple[str, str, str]:
    """The grid, the network and the last part of a recipe's name: the method with its ablation."""
    grid, network, method = recipe.rsplit("/", 2)
    return grid, network, method


def _order(figure: Figure) -> tuple[Any, ...]:
    """Data set by data set and protocol by protocol; the tables of the paper before its supplement and its charts."""
    grid, network, method = _split(figure.recipe)
    place = _paper_and_place(figure.source)[1]
    rank = 0 if place.startswith(_TABLE) else 1 if _TABLE in place else 2
    return (_place(grid), rank, _natural(figure.source), _natural(method), _natural(network))


def _place(grid: str) -> tuple[int, str, str]:
    """A key that sorts grids: those on CIFAR-100 first, those on data sets without a place of their own last."""
    protocol, _, dataset = grid.rpartition("/")
    order = [*_DATASETS]
    return order.index(dataset) if dataset in order else len(order), dataset, protocol


def _natural(name: str) -> list[tuple[int, str]]:
    """A key by which Table 2 stands before Table 10, and a method before its ablations."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def grid_tables(grid: str, figures: Sequence[Figure]) -> str:
    """The tables of one protocol on one data set: of the deployed head alone, and of several heads."""
    several = {(figure.recipe, figure.source) for figure in figures if figure.head != _DEPLOYED}
    deployed = [figure for figure in figures if (figure.recipe, figure.source) not in several]
    of_heads = [figure for figure in figures if (figure.recipe, figure.source) in several]
    first = figures[0]
    caption = _filled(f"**`{grid}`**. Runs: {first.reduce}. Epoch: {first.selection}.", indent="")
    tables = [_deployed_table(deployed)] if deployed else []
    tables += [_heads_table(of_heads)] if of_heads else []
    return "\n\n".join([caption, *tables])


def _deployed_table(figures: Sequence[Figure]) -> str:
    """A row for each recipe and table, a column for each network."""
    plain = [each for figure in figures if (each := _plain(figure))]
    cells = []
    for figure in (*plain, *figures):
        _, network, method = _split(figure.recipe)
        cells.append(((figure.source, method), network, figure))
    return _figures_table(cells, ["", "recipe"])


def _heads_table(figures: Sequence[Figure]) -> str:
    """A row for each recipe, network and table, a column for each head; then where the paper gives plain training."""
    cells = []
    elsewhere = set()
    for figure in figures:
        _, network, method = _split(figure.recipe)
        row = (figure.source, network, method)
        cells.append((row, figure.head, figure))
        if plain := _plain(figure):
            cells.append((row, _PLAIN, plain))
            elsewhere |= {plain.source} - {figure.source}
    written = _figures_table(cells, ["", "network", "recipe"])
    if not elsewhere:
        return written
    note = f"The figures of `{_PLAIN}` are those of {', '.join(sorted(elsewhere, key=_natural))}."
    return f"{written}\n\n{_filled(note, indent='')}"


def _figures_table(cells: Iterable[tuple[tuple[str, ...], str, Figure]], header: Sequence[str]) -> str:
    """A table of figures.

    Args:
        cells: for each figure the begin of its row, the name of its column, and itself. Rows stay in this order; the
            columns are sorted, plain training and the deployed head before all others.
        header: names of the columns in which rows begin.
    """
    rows: dict[tuple[str, ...], dict[str, Figure]] = {}
    for row, column, figure in cells:
        rows.setdefault(row, {})[column] = figure
    named = {column for row in rows.values() for column in row}
    columns = sorted(named, key=lambda column: (column != _PLAIN, column != _DEPLOYED, _natural(column)))
    lines = [[*row, *(_value(figures.get(column)) for column in columns)] for row, figures in rows.items()]
    return table(lines, [*header, *columns])


def _plain(figure: Figure) -> Figure | None:
    """The figure of plain training in the same protocol, if there is one; None for one of plain training."""
    grid, network, method = _split(figure.recipe)
    figures = figures_of(f"{grid}/{network}/{_PLAIN}") if method != _PLAIN else ()
    return figures[0] if figures else None


def _value(figure: Figure | None) -> str:
    """A figure in percent, with two decimals, or more if the paper gives more."""
    if figure is None:
        return ""
    value = f"{figure.value:.2f}" if round(figure.value, 2) == figure.value else str(figure.value)
    return value if figure.std is None else f"{value} ± {figure.std:.2f}"


def _filled(text: str, indent: str = "  ") -> str:
    """Text in lines of at most 120 characters; names and values are not broken."""
    return textwrap.fill(text, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def write() -> None:
    """Write all files."""
    _write(OVERVIEW_FILE, overview_text())
    for page in pages():
        _write(page, rendered(page))


def _write(file: Path, text: str) -> None:
    with written_whole(file) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def main() -> int:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
