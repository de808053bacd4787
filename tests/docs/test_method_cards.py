"""The methods' cards, docs/methods/, against the methods and recipes that they describe."""

import inspect
import re
from pathlib import Path

import pytest

from selfkd.methods import METHODS
from selfkd.recipes.files import read_recipe, recipe_names
from selfkd.reports.published import figures_of

CARDS = Path(__file__).resolve().parents[2] / "docs" / "methods"


def card(name):
    return (CARDS / f"{name}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", METHODS)
def test_every_published_figure_of_a_method_stands_on_its_card(name):
    recipes = [recipe for recipe in recipe_names() if read_recipe(recipe)["method"] == name]
    figures = {figure.value for recipe in recipes for figure in figures_of(recipe)}
    assert figures <= {float(number) for number in re.findall(r"\d+\.\d+", card(name))}


@pytest.mark.parametrize("name", METHODS)
def test_every_key_stands_on_the_methods_card(name):
    options = list(inspect.signature(METHODS.load(name)).parameters)[2:]
    assert set(options) <= set(re.findall(r"\w+", card(name)))
