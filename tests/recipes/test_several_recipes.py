import pytest

from selfkd.errors import RecipeError, UnknownNameError
from selfkd.recipes.files import recipe_names
from selfkd.recipes.reader import resolve
from selfkd.recipes.several import each_once, resolve_several

PLAIN, DTSKD = "demo/digits/resnet18/plain", "demo/digits/resnet18/dtskd"


def in_short(recipes):
    return [(recipe.parts["method"], recipe.seed) for recipe in recipes]


def test_one_recipe_is_resolved_as_ever():
    overrides = {"trainer.epochs": "3", "seed": "4"}
    assert resolve_several([DTSKD], overrides, None) == [resolve(DTSKD, overrides)]
    assert resolve_several([DTSKD], {}, None) == [resolve(DTSKD)]


def test_each_recipe_has_every_part_of_a_list_and_then_every_seed():
    recipes = resolve_several([PLAIN], {"seed": "0, 2", "method": "ps_kd,dtskd"}, None)
    assert in_short(recipes) == [("ps_kd", 0), ("ps_kd", 2), ("dtskd", 0), ("dtskd", 2)]
    assert recipes[3] == resolve(PLAIN, {"method": "dtskd", "seed": "2"})


def test_lists_are_combined():
    recipes = resolve_several([PLAIN, DTSKD], {"optimizer": "sgd,adamw", "schedule": "cosine,constant"}, [7])
    assert [(r.name.partition("+")[0], r.parts["optimizer"], r.parts["schedule"]) for r in recipes] == [
        (name, optimizer, schedule)
        for name in (PLAIN, DTSKD)
        for optimizer in ("sgd", "adamw")
        for schedule in ("cosine", "constant")
    ]
    assert {recipe.seed for recipe in recipes} == {7}


def test_an_optional_part_may_be_absent_in_a_list():
    first, second = resolve_several([PLAIN], {"supervision": "null,smoothed"}, None)
    assert "supervision" not in first.parts
    assert second.parts["supervision"] == "smoothed"


def test_a_pattern_stands_for_all_recipes_that_fit_it():
    names = [recipe.name for recipe in resolve_several(["dtskd/cifar100/resnet1?/*"], {}, None)]
    assert names == [name for name in recipe_names() if name.startswith("dtskd/cifar100/resnet18/")]
    assert names


def test_every_recipe_comes_once():
    recipes = resolve_several([DTSKD, "demo/digits/resnet18/[dp]*", DTSKD], {"seed": "1,0,1"}, None)
    expected = [("dtskd", 1), ("dtskd", 0), ("plain", 1), ("plain", 0)]
    assert [pair for pair in in_short(recipes) if pair[0] in ("dtskd", "plain")] == expected
    assert resolve_several([PLAIN], {"method": "plain,plain"}, [3, 3]) == [resolve(PLAIN, {"seed": "3"})]


def test_files_have_their_own_seeds(tmp_path):
    for seed in (3, 5):
        (tmp_path / f"mine-{seed}.yaml").write_text(f"include: {PLAIN}\nseed: {seed}\n")
    files = [str(tmp_path / f"mine-{seed}.yaml") for seed in (3, 5)]
    assert [recipe.seed for recipe in resolve_several(files, {}, None)] == [3, 5]
    assert [recipe.seed for recipe in resolve_several(files, {}, [0])] == [0, 0]


@pytest.mark.parametrize(
    ("names", "overrides", "seeds", "message"),
    [
        ([PLAIN], {"seed": "0,1"}, [0], "seed='0,1' and other seeds are given; give the seeds once"),
        ([PLAIN], {"seed": "0,,1"}, None, "seed='0,,1' is not allowed; .* for example seed=0,1,2"),
        ([PLAIN], {"seed": "[0,1]"}, None, r"seed='\[0,1\]' is not allowed; .* for example seed=0,1,2"),
        ([PLAIN], {"method": "plain,"}, None, "method='plain,' is not allowed; .* for example method=plain,"),
        ([PLAIN], {"seed": "0,x"}, None, "seed='x' is not allowed; seed must be a whole number"),
        ([PLAIN], {"seed": "0,1_0"}, None, "seed='1_0' is not allowed; write numbers in plain decimals"),
        ([PLAIN], {}, [-1], "seed=-1 is not allowed; seed must be from 0 to 4294967295"),
        ([PLAIN], {"method": "plain,dtskd", "name": "mine"}, None, "name='mine' is not allowed with several"),
        ([PLAIN, DTSKD], {"name": "mine"}, None, "name='mine' is not allowed with several"),
    ],
)
def test_lists_that_cannot_be_used_are_refused(names, overrides, seeds, message):
    with pytest.raises(RecipeError, match=message):
        resolve_several(names, overrides, seeds)


def test_a_name_may_have_several_seeds():
    recipes = resolve_several([PLAIN], {"name": "mine", "seed": "0,1"}, None)
    assert [(recipe.name, recipe.seed) for recipe in recipes] == [("mine", 0), ("mine", 1)]


def test_an_unknown_part_in_a_list_is_named():
    with pytest.raises(UnknownNameError, match="unknown method 'dtsk'; nearest: dtskd"):
        resolve_several([PLAIN], {"method": "plain,dtsk"}, None)


def test_a_pattern_that_fits_nothing_is_an_error_with_the_nearest():
    with pytest.raises(UnknownNameError, match=r"unknown recipe 'dtskd/cifr100/resnet18/\*'; nearest: dtskd/cifar100"):
        resolve_several(["dtskd/cifr100/resnet18/*"], {}, None)


def test_two_recipes_of_one_run_folder_are_refused(tmp_path):
    for folder, width in (("a", 8), ("b", 4)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.yaml").write_text(f"include: {PLAIN}\nbackbone.width: {width}\n")
    files = [str(tmp_path / folder / "mine.yaml") for folder in "ab"]
    with pytest.raises(RecipeError, match=r"share the run folder mine/seed-0 \(backbone.width: 8 there, 4 now\); give"):
        resolve_several(files, {}, None)


def test_options_of_the_machine_make_no_other_recipe_but_another_root_of_the_data_does(tmp_path):
    workers = [resolve(PLAIN, {"loader.workers": number}) for number in ("0", "1")]
    assert each_once(workers) == workers[:1]
    folders = {"data": "folder", "data.image_size": "16"}
    roots = [resolve(PLAIN, {**folders, "data.root": str(tmp_path / name)}) for name in "ab"]
    with pytest.raises(RecipeError, match="data.root: '.*/a' and '.*/b'"):
        each_once(roots)


def test_own_parts_in_a_list_are_trusted_as_in_any_override():
    recipes = resolve_several([PLAIN], {"method": "plain,selfkd.methods.ps_kd:PSKD"}, None)
    assert [recipe.parts["method"] for recipe in recipes] == ["plain", "selfkd.methods.ps_kd:PSKD"]
