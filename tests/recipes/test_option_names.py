import inspect

import pytest

from selfkd.recipes.option_names import every_key, option_names
from selfkd.recipes.part_options import common_options, options_of
from selfkd.recipes.reader import resolve
from selfkd.recipes.sections import ALWAYS, CHOSEN

EVERY = [(section, None) for section in ALWAYS] + [
    (section, name)
    for section, chosen in CHOSEN.items()
    for name in (*chosen.catalogue, *(example for _, example in chosen.others))
]
RECIPE = resolve("demo/digits/resnet18/plain")


@pytest.mark.parametrize(("section", "name"), EVERY)
def test_the_source_names_the_options_that_the_imported_part_has(section, name):
    parts = {**RECIPE.parts, **({} if name is None else {section: name})}
    imported = [key for key in options_of(parts) if key.startswith(f"{section}.")]
    assert sorted(option_names(section, name)) == sorted(imported)
    assert set(imported) <= set(every_key())


def test_somebodys_own_must_be_imported_first():
    assert option_names("method", "package.module:Class") is None


@pytest.mark.parametrize("section", [section for section, chosen in CHOSEN.items() if chosen.common is not None])
def test_a_section_adds_the_same_options_to_each_of_its_parts(section):
    chosen = CHOSEN[section]
    added = [set(common_options(section, name)) for name in (*chosen.catalogue, "resnet18")]
    assert added[0]
    assert all(each == added[0] for each in added)
    for name in (*chosen.catalogue, *(example for _, example in chosen.others)):
        own = {f"{section}.{each}" for each in inspect.signature(chosen.load(name)).parameters}
        assert added[0].isdisjoint(own), f"{name} has an option of its own with a name that the section adds"
