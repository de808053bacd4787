import random
import re

import pytest

from selfkd.errors import RecipeError
from selfkd.recipes.key_checks import split_overrides
from selfkd.recipes.options_help import options_help
from selfkd.recipes.reader import resolve
from selfkd.recipes.run_names import name_with_changes, recipe_stem

PLAIN = "demo/digits/resnet18/plain"
MANY = {
    "backbone": "resnet50",
    "data": "folder",
    "data.classes": [f"class{number}" for number in range(40)],
    "data.image_size": 224,
    "loader.batch_size": 16,
    "method": "dtskd",
    "optimizer": "adamw",
    "optimizer.lr": 0.001,
    "optimizer.weight_decay": 0.05,
    "schedule": "cosine",
    "trainer.epochs": 30,
    "trainer.guard_every": 7,
}
TAIL = re.compile(r"(\+\d+_more)?-[0-9a-f]{8}$")


def suffix_of(changed, stem=PLAIN):
    name = name_with_changes(stem, changed)
    assert name.startswith(stem)
    return name.removeprefix(stem)


@pytest.mark.parametrize(
    ("changed", "suffix"),
    [
        ({}, ""),
        ({"backbone.width": 16, "trainer.epochs": 15}, "+backbone.width=16+trainer.epochs=15"),
        ({"backbone": "torchvision/resnet18"}, "+backbone=torchvision_resnet18"),
        ({"data.classes": ("a b", "c")}, "+data.classes=[ab,c]"),
        ({"supervision": None, "optimizer.nesterov": False}, "+supervision=null+optimizer.nesterov=false"),
        ({"teacher.recipe": "demo/digits/resnet18/dtskd"}, "+teacher.recipe=demo_digits_resnet18_dtskd"),
        ({"method": "package.module:Class"}, "+method=package.module:Class"),
        ({"data.name": "/data/birds"}, "+data.name=_data_birds"),
        ({"data.name": "x" * 109}, f"+data.name={'x' * 109}"),
        ({"data.name": "x" * 184}, f"+data.name={'x' * 184}"),
    ],
)
def test_a_list_that_fits_is_written_as_in_older_versions(changed, suffix):
    """So that the command finds the runs that they trained."""
    assert suffix_of(changed) == suffix


def test_of_a_path_the_name_has_the_last_part(tmp_path):
    (tmp_path / "big.yaml").write_text(f"include: {PLAIN}\n")
    weights = resolve(PLAIN, {"backbone.weights": str(tmp_path / "base.safetensors")})
    assert weights.name == f"{PLAIN}+backbone.weights=base"
    of_recipe = {"method": "kd", "teacher": "recipe", "teacher.recipe": str(tmp_path / "big.yaml")}
    assert resolve(PLAIN, of_recipe).name == f"{PLAIN}+method=kd+teacher=recipe+teacher.recipe=big"


def test_what_a_folder_cannot_have_is_escaped_so_that_it_can_be_read():
    assert suffix_of({"data.train_split": "a\\b\nc\u202e\udc80"}) == "+data.train_split=a%5Cb%0Ac%E2%80%AE%ED%B2%80"


def test_where_not_all_options_fit_the_most_important_are_named():
    parts = "+method=dtskd+backbone=resnet50+data=folder+optimizer=adamw+schedule=cosine"
    options = "+trainer.epochs=30+optimizer.lr=0.001+loader.batch_size=16+data.image_size=224+trainer.guard_every=7"
    assert re.fullmatch(rf"{re.escape(parts + options)}\+2_more-[0-9a-f]{{8}}", suffix_of(MANY))
    without_parts = {key: value for key, value in MANY.items() if "." in key}
    first = "+trainer.epochs=30+optimizer.lr=0.001+loader.batch_size=16+data.image_size=224"
    assert suffix_of(without_parts).startswith(first)


def test_the_options_of_fine_tuning_are_among_the_most_important():
    fine_tuning = {
        "backbone.weights": "cells",
        "trainer.epochs": 4,
        "optimizer.lr": 0.0025,
        "trainer.freeze": 2,
        "optimizer.head_lr_factor": 10.0,
        "optimizer.layer_decay": 0.7,
        "trainer.freeze_epochs": 2,
    }
    others = {"augmentation.interpolation": "bicubic", "data.classes": [f"class{number}" for number in range(40)]}
    named = TAIL.sub("", suffix_of({**others, **fine_tuning}))
    assert all(f"+{key}={value}" in named for key, value in fine_tuning.items())


@pytest.mark.parametrize("stem", [PLAIN, "photos/folder/resnet18/" + "a" * 60])
def test_a_name_uses_its_room(stem):
    folder = name_with_changes(stem, {f"method.option{number}": number for number in range(40)}).rpartition("/")[2]
    assert 200 - len("+method.option39=39") < len(folder) <= 200


def test_a_long_value_is_cut_and_a_checksum_tells_it_from_others():
    first, second = ([*(f"class{number}" for number in range(40)), last] for last in "ab")
    names = {suffix_of({"data.classes": classes}) for classes in (first, second)}
    assert len(names) == 2
    for name in names:
        assert re.fullmatch(r"\+data\.classes=\[class0,class1,[a-z0-9,]*\.\.\.-[0-9a-f]{8}", name)


def any_value(draw):
    """A value as options have them: a number, a truth value, a text of any characters, or a list."""
    return draw.choice(
        [
            draw.randrange(10**6),
            draw.random(),
            draw.random() < 0.5,
            None,
            "".join(
                chr(draw.choice([draw.randrange(0x80), draw.randrange(0x20000)])) for _ in range(draw.randrange(90))
            ),
            [draw.random() for _ in range(draw.randrange(30))],
        ]
    )


@pytest.mark.parametrize("seed", range(50))
def test_a_folder_can_have_every_name_and_no_two_runs_share_one(seed):
    draw = random.Random(seed)  # noqa: S311 (no secret)
    keys = [*MANY, *(f"method.option{number}" for number in range(20))]
    seen = {}
    for _ in range(40):
        changed = {key: any_value(draw) for key in sorted(draw.sample(keys, draw.randrange(1, len(keys))))}
        stem = draw.choice([PLAIN, "a" * 40, f"photos/folder/{'b' * 60}"])
        name = name_with_changes(stem, changed)
        folder = name.rpartition("/")[2]
        suffix = name.removeprefix(stem)
        assert name.isprintable()
        assert {"\\", "/"}.isdisjoint(suffix)
        assert len(folder.encode()) <= 200
        named = TAIL.sub("", suffix)
        assert any(named.startswith(f"+{key}=") for key in changed), "never a number or a checksum alone"
        assert seen.setdefault(name, (stem, changed)) == (stem, changed)


def test_a_change_of_any_option_changes_the_name():
    name = name_with_changes(PLAIN, MANY)
    for key in MANY:
        assert name_with_changes(PLAIN, {**MANY, key: "another"}) != name
    assert name_with_changes(PLAIN, dict(MANY)) == name


def test_a_name_that_leaves_no_room_is_refused():
    with pytest.raises(RecipeError, match="name must be a path whose parts have at most 200 bytes each"):
        name_with_changes("a" * 195, {"trainer.epochs": 3})


def test_a_run_of_many_options_has_a_name_that_says_which():
    overrides = split_overrides([f"{key}={value}" for key, value in MANY.items() if key != "data.classes"])
    overrides["data.classes"] = "[" + ",".join(f"class{number}" for number in range(40)) + "]"
    name = resolve(PLAIN, overrides).name
    assert name.startswith(f"{PLAIN}+method=dtskd+backbone=resnet50+data=folder+optimizer=adamw+schedule=cosine")
    assert resolve(PLAIN, {**overrides, "name": "mine"}).name == "mine"


def test_a_file_gives_its_name_without_folder_and_ending():
    assert [recipe_stem(name) for name in ("a/b.yaml", "b.yml", PLAIN)] == ["b", "b", PLAIN]


def test_the_help_of_a_recipe_explains_the_name():
    recipe = resolve(PLAIN)
    assert "name=NAME" in options_help(recipe.parts, recipe.flat())
