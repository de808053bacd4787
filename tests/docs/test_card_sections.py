"""The sections of the methods' cards, docs/methods/."""

import re
from pathlib import Path

import pytest

CARDS = Path(__file__).resolve().parents[2] / "docs" / "methods"
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


def card(name):
    return (CARDS / f"{name}.md").read_text(encoding="utf-8")


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
