"""The methods' cards, docs/methods/, against the recipes."""

import re
from pathlib import Path

from selfkd.recipes.files import read_recipe, recipe_names
from selfkd.reports.published import figures_of

CARDS = Path(__file__).resolve().parents[2] / "docs" / "methods"


def test_no_published_figure_is_left_out_of_its_methods_card():
    """benchmarks/method_pages.py writes them into the section "Published figures", the last one."""
    figures = {name: {figure.value for figure in figures_of(name)} for name in recipe_names()}
    published = {name: values for name, values in figures.items() if values}
    assert published
    for name, values in published.items():
        card = (CARDS / f"{read_recipe(name)['method']}.md").read_text(encoding="utf-8")
        section = card.partition("## Published figures\n")[2]
        assert values <= {float(number) for number in re.findall(r"\d+\.\d+", section)}, name
