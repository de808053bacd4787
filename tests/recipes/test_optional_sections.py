"""Sections that a recipe may have, which give a method its reserved keyword arguments."""

import inspect

import pytest
import yaml

from selfkd.errors import OptionError, RecipeError, UnknownNameError, UserError
from selfkd.methods import METHODS, RESERVED, create_method
from selfkd.recipes.key_checks import split_overrides
from selfkd.recipes.option_names import every_key, option_names
from selfkd.recipes.options_help import options_help
from selfkd.recipes.reader import resolve
from selfkd.recipes.recipe import MACHINE, differences
from selfkd.recipes.sections import CHOSEN

LOTH = "loth/cifar100/resnet18/loth"
HISTORICAL = ["supervision=historical", "supervision.alpha=0.7"]


def overridden(*arguments, recipe=LOTH):
    return resolve(recipe, split_overrides(arguments))


def test_a_section_that_is_not_there_leaves_no_trace():
    recipe = resolve(LOTH)
    assert "supervision" not in recipe.parts
    assert "supervision" not in recipe.options
    assert not [key for key in recipe.flat() if key.startswith("supervision")]


def test_its_part_and_options_are_of_the_name_and_of_the_experiment(tmp_path):
    recipe = overridden(*HISTORICAL)
    assert recipe.name == f"{LOTH}+supervision=historical+supervision.alpha=0.7"
    assert recipe.options["supervision"] == {"alpha": 0.7, "decay": "linear"}
    assert not recipe.published
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe.to_yaml())
    assert yaml.safe_load(file.read_text())["supervision"] == "historical"
    assert resolve(str(file)) == recipe
    assert "supervision: None there, 'historical' now" in differences(resolve(LOTH).flat(), recipe.flat())
    assert not {key for key in recipe.flat() if key.startswith("supervision")} & MACHINE


def test_a_default_of_the_part_is_not_said_in_the_name():
    assert overridden("supervision=historical", "supervision.alpha=0.8").name.endswith("+supervision.alpha=0.8")


@pytest.mark.parametrize("none", ["null", None])
def test_null_takes_a_part_away_with_its_options(tmp_path, none):
    file = tmp_path / "with.yaml"
    file.write_text(f"include: {LOTH}\nsupervision: historical\nsupervision.alpha: 0.7\n")
    recipe = resolve(str(file), {"supervision": none})
    assert "supervision" not in recipe.parts
    assert recipe.name == "with+supervision=null"
    assert {**recipe.flat(), "name": LOTH, "published": None} == {**resolve(LOTH).flat(), "published": None}


def test_a_part_that_is_replaced_takes_its_options_along(tmp_path):
    file = tmp_path / "with.yaml"
    file.write_text(f"include: {LOTH}\nsupervision: historical\nsupervision.alpha: 0.7\n")
    assert resolve(str(file), {"supervision": "smoothed"}).options["supervision"] == {"smoothing": 0.1}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            ["supervision=historcal"],
            UnknownNameError,
            "unknown supervision 'historcal'; nearest: historical; the .*; supervision=null removes the recipe's",
        ),
        (["supervision.alpha=0.7"], RecipeError, "has no meaning without supervision=<name>; the supervisions are"),
        (["supervision.alhpa=0.7"], UnknownNameError, "unknown option 'supervision.alhpa'; nearest: supervision.alpha"),
        (
            ["supervision=smoothed", "supervision.alpha=0.7"],
            UnknownNameError,
            "unknown option 'supervision.alpha'; .* shows all options of supervision 'smoothed'",
        ),
        (["supervison=smoothed"], UnknownNameError, "unknown option 'supervison'; nearest: supervision=smoothed"),
        (
            [*HISTORICAL[:1], "supervision.alpha=2"],
            OptionError,
            r"supervision.alpha=2.0 is not allowed; .* in \[0, 1\]",
        ),
        ([*HISTORICAL[:1], "supervision.alpha=much"], RecipeError, "supervision.alpha='much' .* must be a number"),
        ([*HISTORICAL[:1], "supervision.alpha=1_0"], RecipeError, "plain decimals"),
        ([*HISTORICAL[:1], "supervision.decay=slow"], RecipeError, "must be linear, cosine or fixed"),
    ],
)
def test_a_slip_is_answered_with_what_is_meant_or_allowed(arguments, error, message):
    with pytest.raises(error, match=message):
        overridden(*arguments)


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("ps_kd", "it is plain with supervision=historical; use method=plain with another"),
        ("label_smoothing", "it is plain with supervision=smoothed; use method=plain with another"),
        ("dtskd", "its heads have their own, the historical teacher"),
    ],
)
def test_a_method_that_takes_none_says_why(method, reason):
    with pytest.raises(
        UserError, match=f"method '{method}' takes no supervision: {reason}.*; supervision=null removes it"
    ):
        overridden(f"method={method}", *HISTORICAL)


def test_somebodys_own_method_takes_what_it_declares_and_nothing_else(tmp_path, monkeypatch):
    (tmp_path / "own_supervised.py").write_text(
        "from selfkd.methods.plain import Plain\n"
        "class Taking(Plain):\n"
        "    def __init__(self, backbone, data, *, weight: float = 1.0, supervision=None, peer=None):\n"
        "        super().__init__(backbone, data, supervision=supervision)\n"
        "class Bare(Plain):\n"
        "    def __init__(self, backbone, data, *, weight: float = 1.0):\n"
        "        super().__init__(backbone, data)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    recipe = overridden("method=own_supervised:Taking", *HISTORICAL)
    assert recipe.options["method"] == {"weight": 1.0}, "reserved arguments are no options"
    with pytest.raises(UserError, match="takes no supervision: its class has no keyword argument supervision"):
        overridden("method=own_supervised:Bare", *HISTORICAL)
    with pytest.raises(UnknownNameError, match=r"unknown option 'method.peer'"):
        overridden("method=own_supervised:Taking", "method.peer=3")


@pytest.mark.parametrize("name", METHODS)
def test_what_is_reserved_is_no_option(name):
    assert not {f"method.{keyword}" for keyword in RESERVED} & set(option_names("method", name))


def test_what_a_method_does_not_take_is_refused_in_somebodys_own_loop_too():
    with pytest.raises(UserError, match="method 'dtskd' takes no supervision: its heads have their own"):
        create_method("dtskd", None, None, supervision=None)


def test_the_help_shows_the_section_and_what_may_stand_there(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    recipe = resolve(LOTH)
    without = options_help(recipe.parts, recipe.flat())
    assert "\n  supervision=null\n      or labels, smoothed, historical\n" in without
    assert "supervision.alpha" not in without
    recipe = overridden(*HISTORICAL)
    text = options_help(recipe.parts, recipe.flat())
    assert "\n  supervision=historical\n      or labels, smoothed, null\n" in text
    assert "supervision.alpha=0.7" in text
    assert "weight of the past prediction in the last epoch" in text


def test_the_options_of_every_part_are_known_before_torch_is():
    known = {key for key in every_key() if key.startswith("supervision.")}
    assert known == {"supervision.alpha", "supervision.decay", "supervision.smoothing"}
    for name in CHOSEN["supervision"].catalogue:
        signature = inspect.signature(CHOSEN["supervision"].catalogue.load(name))
        assert set(option_names("supervision", name)) == {f"supervision.{key}" for key in signature.parameters}
