"""The methods' cards, docs/methods/, against the methods and recipes that they describe."""

import inspect
import re
from pathlib import Path

import pytest

from selfkd.methods import METHODS
from selfkd.recipes.files import read_recipe, recipe_names

CARDS = Path(__file__).resolve().parents[2] / "docs" / "methods"


def card(name):
    return (CARDS / f"{name}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("paper", ["dtskd", "loth", "teskd"])
def test_every_published_figure_of_a_paper_stands_on_its_card(paper):
    published = [read_recipe(name).get("published") for name in recipe_names() if name.startswith(f"{paper}/")]
    figures = {value for each in published if each for value in (each["value"], *each.get("other_heads", {}).values())}
    assert figures
    assert figures <= {float(number) for number in re.findall(r"\d+\.\d+", card(paper))}


@pytest.mark.parametrize("name", METHODS)
def test_every_key_stands_on_the_methods_card(name):
    options = list(inspect.signature(METHODS.load(name)).parameters)[2:]
    assert set(options) <= set(re.findall(r"\w+", card(name)))
