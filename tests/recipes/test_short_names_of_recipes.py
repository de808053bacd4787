import pytest

from selfkd.errors import RecipeError, UnknownNameError
from selfkd.recipes import files
from selfkd.recipes.files import full_name, recipe_names
from selfkd.recipes.reader import resolve
from selfkd.recipes.several import resolve_several

DTSKD = "demo/digits/resnet18/dtskd"


@pytest.mark.parametrize("short", ["demo/digits/dtskd", "demo/resnet18/dtskd", "digits/resnet18/dtskd", "demo/dtskd"])
def test_parts_that_leave_no_choice_may_be_left_out(short):
    assert full_name(short) == DTSKD


def test_a_whole_name_is_itself():
    assert [full_name(name) for name in recipe_names()] == recipe_names()


def test_a_whole_name_wins_over_longer_ones(monkeypatch):
    monkeypatch.setattr(files, "recipe_names", lambda: ["a/b", "a/x/b"])
    assert full_name("a/b") == "a/b"


@pytest.mark.parametrize(
    "name", ["demo/dtskd.yaml", "demo/dtskt", "dtskd/demo", "parts/demo_digits", "demo//dtskd", ""]
)
def test_a_name_that_fits_nothing_stays_as_it_is(name):
    assert full_name(name) == name


def test_a_choice_is_refused_with_some_of_the_recipes():
    message = "'demo/digits' is short for 5 recipes: demo/digits/resnet18/dtskd, .*; write more of the name"
    with pytest.raises(RecipeError, match=message):
        full_name("demo/digits")
    with pytest.raises(RecipeError, match="and [0-9]+ more; write more of the name"):
        resolve("resnet18/plain")


def test_what_is_stored_has_the_whole_name():
    recipe = resolve("demo/plain", {"trainer.epochs": "3"})
    assert recipe == resolve("demo/digits/resnet18/plain", {"trainer.epochs": "3"})
    assert recipe.name == "demo/digits/resnet18/plain+trainer.epochs=3"


def test_the_short_and_the_whole_name_are_one_recipe():
    assert resolve_several(["demo/dtskd", DTSKD], {}, None) == [resolve(DTSKD)]


def test_the_recipe_of_a_teacher_may_be_short_too():
    of_recipe = {"method": "kd", "teacher": "recipe"}
    recipe = resolve("demo/plain", {**of_recipe, "teacher.recipe": "demo/dtskd"})
    assert recipe == resolve("demo/digits/resnet18/plain", {**of_recipe, "teacher.recipe": DTSKD})
    assert recipe.options["teacher"]["recipe"] == DTSKD


def test_an_include_has_the_whole_name(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("include: demo/dtskd\n")
    with pytest.raises(UnknownNameError, match="unknown recipe 'demo/dtskd'; nearest: .*demo/digits/resnet18/dtskd"):
        resolve(str(file))
