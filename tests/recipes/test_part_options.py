"""Options as signatures give them: of every part of the package, and of somebody's own."""

import sys

import pytest

from selfkd.errors import RecipeError, UnknownNameError
from selfkd.recipes.option_names import option_names
from selfkd.recipes.part_options import options_of
from selfkd.recipes.reader import resolve
from selfkd.recipes.sections import ALWAYS, CHOSEN
from selfkd.recipes.values import in_words

DEMO = "demo/digits/resnet18/plain"
PARTS = [
    (section, name)
    for section, chosen in CHOSEN.items()
    for name in (*chosen.catalogue, *(example for _, example in chosen.others))
]
OWN = """\
from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from selfkd.methods.plain import Plain

if TYPE_CHECKING:
    from pathlib import Path

class Base(Plain):
    def __init__(self, backbone, data, *, depth: Literal[1, 2] = 1):
        super().__init__(backbone, data)

class Passing(Base):
    def __init__(self, backbone, data, *, level=3, place: Path | None = None, **options):
        super().__init__(backbone, data, **options)

class Needing(Plain):
    def __init__(self, backbone, data, *, strength: float):
        super().__init__(backbone, data)
"""


@pytest.mark.parametrize(("section", "name"), PARTS)
def test_every_option_of_the_package_has_a_type_and_a_meaning(section, name):
    options = options_of({**resolve(DEMO).parts, section: name})
    for key in (*option_names(section, name), *(key for each in ALWAYS for key in option_names(each, None))):
        assert "any value" not in in_words(options[key].kind), key
        assert options[key].meaning, key
        assert not options[key].required, key


@pytest.fixture
def own(tmp_path, monkeypatch):
    """`own("Passing", {"method.level": "4"})`: the options of the method of a recipe with somebody's own."""
    (tmp_path / "own_options.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    yield lambda name, overrides={}: resolve(DEMO, {"method": f"own_options:{name}", **overrides}).options["method"]
    sys.modules.pop("own_options", None)


def test_an_own_class_has_the_options_that_it_passes_on_to_its_base(own):
    assert own("Passing") == {"level": 3, "place": None, "depth": 1}
    assert own("Passing", {"method.level": "4", "method.depth": "2"})["depth"] == 2
    with pytest.raises(RecipeError, match="method.depth='7' is not allowed; method.depth must be 1 or 2"):
        own("Passing", {"method.depth": "7"})
    with pytest.raises(UnknownNameError, match="unknown option 'method.levl'; nearest: method.level=4"):
        own("Passing", {"method.levl": "4"})


def test_an_option_without_a_default_must_be_given(own):
    with pytest.raises(RecipeError, match="^method.strength has no default; add method.strength=<value>, a number$"):
        own("Needing")
    assert own("Needing", {"method.strength": "2"}) == {"strength": 2.0}
