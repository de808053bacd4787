import pytest

from selfkd.errors import RecipeError, UnknownNameError, UserError
from selfkd.recipes.files import recipe_names, recipe_summary
from selfkd.recipes.reader import differences, options_help, resolve, split_overrides

DTSKD = "dtskd/cifar100/resnet18/dtskd"


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_resolves_and_its_resolved_form_is_itself(name, tmp_path):
    recipe = resolve(name)
    assert recipe.name == name
    assert name.rpartition("/")[2].partition("-")[0] == recipe.parts["method"]
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe.to_yaml())
    again = resolve(str(file))
    assert again == recipe
    assert differences(again.flat(), recipe.flat()) == []
    assert recipe_summary(name)


def test_the_published_protocol_of_dtskd():
    recipe = resolve(DTSKD)
    flat = recipe.flat()
    expected = {
        "trainer.epochs": 300,
        "trainer.best_after_epoch": 201,
        "loader.batch_size": 128,
        "optimizer.lr": 0.1,
        "optimizer.momentum": 0.9,
        "optimizer.weight_decay": 5e-4,
        "optimizer.nesterov": True,
        "schedule.milestones": [0.5, 0.75],
        "augmentation.padding": 4,
        "augmentation.padding_mode": "zeros",
        "data.mean": [0.4914, 0.4822, 0.4465],
        "data.std": [0.2023, 0.1994, 0.2010],
        "method.historical_weight": 0.2,
        "method.structural_weight": 0.8,
        "method.head_weights": [3, 1, 1, 1],
        "method.temperature": 4,
        "method.beta_max": 0.9,
        "method.beta_min": 0,
        "method.epsilon": 1e-7,
    }
    assert {key: flat[key] for key in expected} == expected
    assert recipe.published["value"] == 80.46


def test_recipes_of_one_protocol_differ_in_the_method_only():
    def shared(name):
        flat = resolve(f"dtskd/cifar100/resnet18/{name}").flat()
        return {k: v for k, v in flat.items() if not k.startswith(("method", "name", "published"))}

    assert shared("plain") == shared("dtskd") == shared("ps_kd") == shared("label_smoothing")


def test_overrides_change_values_and_the_name():
    recipe = resolve(
        DTSKD, split_overrides(["trainer.epochs=15", "backbone.width=16", "method.head_weights=[4,1,1,1]"])
    )
    assert recipe.options["trainer"]["epochs"] == 15
    assert recipe.options["method"]["head_weights"] == (4, 1, 1, 1)
    assert recipe.name == f"{DTSKD}+backbone.width=16+method.head_weights=[4.0,1.0,1.0,1.0]+trainer.epochs=15"
    assert not recipe.published, "another experiment reproduces no published figure"


@pytest.mark.parametrize(
    "arguments",
    [
        ["trainer.epochs=300"],
        ["seed=4"],
        ["data.root=somewhere"],
        ["optimizer.lr=1e-1"],
        ["method=dtskd"],
        ["method.beta_max=0.90"],
    ],
)
def test_what_changes_nothing_changes_no_name(arguments):
    recipe = resolve(DTSKD, split_overrides(arguments))
    assert recipe.name == DTSKD
    assert recipe.published["value"] == 80.46


def test_numbers_are_read_by_the_options_type():
    recipe = resolve(
        DTSKD, split_overrides(["trainer.precision=32", "optimizer.weight_decay=1e-4", "method.beta_min=1"])
    )
    assert recipe.options["trainer"]["precision"] == "32"
    assert recipe.options["optimizer"]["weight_decay"] == 1e-4
    assert isinstance(recipe.options["method"]["beta_min"], float)


def test_a_part_that_is_replaced_takes_its_options_along():
    recipe = resolve(DTSKD, split_overrides(["method=ps_kd", "optimizer=adamw", "optimizer.lr=0.001"]))
    assert recipe.options["method"] == {"alpha": 0.8}
    assert recipe.options["optimizer"]["lr"] == 0.001
    assert recipe.options["optimizer"]["weight_decay"] == 0.05


def test_a_given_name_is_the_name():
    assert resolve(DTSKD, {"name": "mine", "trainer.epochs": 3}).name == "mine"


def test_timm_networks_have_their_options_checked():
    recipe = resolve(DTSKD, split_overrides(["backbone=resnet18", "backbone.drop_rate=0.1"]))
    assert recipe.options["backbone"]["drop_rate"] == 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["method.beta_mx=1"], "unknown option 'method.beta_mx'; nearest: method.beta_max.*of method 'dtskd'"),
        (["method=dtsk"], "unknown method 'dtsk'; nearest: dtskd"),
        (["backbone=resnet18_cifr"], "unknown backbone .*nearest: resnet18_cifar"),
        (["data=cifr100"], "unknown data set 'cifr100'; nearest: cifar100"),
        (["trainr.epochs=3"], "unknown option 'trainr.epochs'; nearest: trainer.epochs"),
    ],
)
def test_unknown_names_bring_the_nearest(arguments, message):
    with pytest.raises(UnknownNameError, match=message):
        resolve(DTSKD, split_overrides(arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["method.beta_max=a"], "method.beta_max='a' is not allowed; method.beta_max must be a number"),
        (["trainer.epochs=1.5"], "trainer.epochs='1.5' is not allowed; trainer.epochs must be a whole number"),
        (["trainer.precision=8"], "trainer.precision='8' .* must be 32, bf16-mixed, 16-mixed"),
        (["seed=-1"], "seed=-1 is not allowed"),
        (["seed=x"], "seed='x' .* must be a whole number"),
        (["data.classes=apple"], "must be a whole number or a list .*, each a whole number or a text or null"),
        (["loader.workers=2.5"], "loader.workers='2.5' .* must be a whole number or auto"),
        (["trainer.compile=fast"], "must be true or false or default, reduce-overhead, max-autotune"),
        (["name=../up"], r"name='../up' is not allowed"),
        (["name="], "name='' is not allowed"),
        (["name=" + "x" * 300], "at most 200 bytes"),
        (["seed=4294967296"], "seed must be from 0 to 4294967295"),
        (["trainer.epochs"], "is no override; write key=value"),
        (["seed=1", "seed=2"], "seed is given twice"),
    ],
)
def test_wrong_values_are_refused(arguments, message):
    with pytest.raises(RecipeError, match=message):
        resolve(DTSKD, split_overrides(arguments))


def test_an_unknown_recipe_brings_the_nearest():
    with pytest.raises(UnknownNameError, match="nearest: dtskd/cifar100/resnet18/dtskd"):
        resolve("dtskd/cifar100/resnet18/dtsk")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "must hold one mapping"),
        ("a: [1\n", "cannot be read as a recipe"),
        ("method: plain\n", "names no data"),
        ("include: parts/nothing\n", "unknown recipe 'parts/nothing'"),
        ("include: {path}\n", "in a circle"),
        ("include: 3\n", "include must be the name"),
        ("method: plain\nmethod: dtskd\n", "method comes twice"),
        ("include: demo/digits/resnet18/plain\noptimizer: {{lr: 0.5}}\n", "write 'optimizer.<option>: <value>'"),
        ("include: demo/digits/resnet18/plain\noptimizer.lr: null\n", "optimizer.lr=null is not allowed"),
        ("include: demo/digits/resnet18/plain\nseed: null\n", "seed must be from 0"),
        ("include: demo/digits/resnet18/plain\ndata: subprocess:Popen\n", "unknown data set 'subprocess:Popen'"),
        ("include: demo/digits/resnet18/plain\nmethod: mine:Method\n", "whose import runs code"),
        ("include: demo/digits/resnet18/plain\nbackbone: mine:network\n", "whose import runs code"),
    ],
)
def test_files_that_are_no_recipes_are_refused(tmp_path, text, message):
    file = tmp_path / "mine.yaml"
    file.write_text(text.format(path=file))
    with pytest.raises((RecipeError, UnknownNameError), match=message):
        resolve(str(file))


def test_somebodys_own_recipe_includes_ours(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(f"include: {DTSKD}\nmethod.beta_max: 0.8\ntrainer.precision: 32\n")
    recipe = resolve(str(file))
    assert recipe.name == "mine"
    assert recipe.options["method"]["beta_max"] == 0.8
    assert recipe.options["trainer"]["precision"] == "32"
    assert not recipe.published


def test_the_help_names_every_option_with_meaning_and_the_recipes_value():
    recipe = resolve(DTSKD)
    text = options_help(recipe)
    for section, options in recipe.options.items():
        for option in options:
            assert f"{section}.{option}=" in text
    assert "trainer.epochs=300" in text
    assert "label's share at the start" in text
    assert "SUPPRESS" not in text


def test_somebodys_own_code_is_imported_only_when_it_is_trusted(tmp_path, monkeypatch):
    (tmp_path / "spy.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "mine.yaml"
    file.write_text("include: demo/digits/resnet18/plain\nmethod: spy:Method\n")
    with pytest.raises(RecipeError, match="whose import runs code"):
        resolve(str(file))
    assert resolve(str(file), {"method": "plain"}).parts["method"] == "plain", "replaced, so never imported"
    for given in ({"overrides": {"method": "spy:Method"}}, {"trust_imports": True}):
        with pytest.raises(UserError, match="'spy:Method' cannot be imported: RuntimeError: imported"):
            resolve(str(file), **given)


def test_what_is_imported_must_be_what_it_should_be():
    with pytest.raises(UserError, match="it must be a class of selfkd.Method"):
        resolve(DTSKD, {"method": "os:getcwd"})


def test_overrides_may_complete_a_recipe(tmp_path):
    lines = resolve("demo/digits/resnet18/plain").to_yaml().splitlines(keepends=True)
    file = tmp_path / "half.yaml"
    file.write_text("".join(line for line in lines if not line.startswith(("method", "name"))))
    assert resolve(str(file), {"method": "dtskd"}).name == "half+method=dtskd"


def test_a_file_includes_its_neighbour(tmp_path):
    (tmp_path / "base.yaml").write_text("include: demo/digits/resnet18/plain\ntrainer.epochs: 7\n")
    (tmp_path / "mine.yaml").write_text("include: base.yaml\n")
    assert resolve(str(tmp_path / "mine.yaml")).options["trainer"]["epochs"] == 7
