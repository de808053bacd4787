"""The methods' cards, docs/methods/, against the methods and recipes that they describe."""

import inspect
import re
from pathlib import Path

import pytest

from selfkd.methods import METHODS
from selfkd.recipes.files import read_recipe, recipe_names
from selfkd.reports.published import figures_of

HEADINGS = [
    "Idea",
    "Objective, as implemented",
    "What is added",
    "Networks",
    "Paper, release and here",
    "Use",
    "Options",
    "Cost",
    "What is deployed",
    "Published figures",
]
"""The sections of a card, in order."""
COMPARED = ("byot", "ecsd", "beed", "dks", "dcm", "frskd", "one", "okddip", "ahbf")
"""The methods that grow structure and are not those of the recipes' papers."""
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


@pytest.mark.parametrize("name", COMPARED)
def test_the_cards_of_compared_methods_have_the_same_sections(name):
    assert re.findall(r"^## (.+)$", card(name), re.MULTILINE) == HEADINGS


@pytest.mark.parametrize("name", COMPARED)
def test_the_table_of_differences_has_no_empty_column(name):
    section = card(name).partition("## Paper, release and here")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    header, _, *cells = [[cell.strip() for cell in row] for row in rows]
    assert set(header) <= {"", "release", "LOTH's release", "OKDDip's release", "Self-KD-Lib", "here"}
    assert header[-1] == "here"
    assert all(any(column) for column in zip(*cells, strict=True))
