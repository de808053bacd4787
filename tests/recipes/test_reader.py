import inspect
import sys
import textwrap
from dataclasses import fields

import pytest
import torch

from selfkd.data import DATASETS, OWN_IMAGES, SHARED_OPTIONS
from selfkd.data.sources.own_images import OwnImages
from selfkd.errors import OptionError, RecipeError, UnknownNameError, UserError
from selfkd.recipes.files import recipe_names, recipe_summary
from selfkd.recipes.key_checks import split_overrides
from selfkd.recipes.reader import resolve
from selfkd.recipes.recipe import differences
from selfkd.recipes.sections import override

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


def test_a_file_of_any_name_can_be_trained_under_a_name_of_its_own(tmp_path):
    file = tmp_path / "a\nb.yaml"
    file.write_text(f"include: {DTSKD}\n")
    with pytest.raises(RecipeError, match="name must be a name of printable characters"):
        resolve(str(file))
    assert resolve(str(file), {"name": "mine", "trainer.epochs": 3}).name == "mine"


@pytest.mark.parametrize(
    ("arguments", "size"),
    [
        (["data.image_size=64"], 64),
        (["data.image_size=64", "augmentation.size=32"], 32),
        (["data.image_size=null"], 224),
        (["data=cifar100"], 224),
        (["backbone=vit_small_patch16_384", "backbone.pretrained=true", "data=folder"], 224),
    ],
)
def test_a_crop_of_random_size_has_the_size_of_the_images(arguments, size):
    recipe = resolve("photos/folder/resnet18/plain", split_overrides(arguments))
    assert recipe.options["augmentation"]["size"] == size


def test_a_crop_of_random_size_has_the_size_that_pretrained_weights_expect():
    chosen = ["data=folder", "augmentation=random_resized_crop", "backbone=vit_small_patch16_384"]
    recipe = resolve("demo/digits/resnet18/plain", split_overrides([*chosen, "backbone.pretrained=true"]))
    assert (recipe.options["data"]["image_size"], recipe.options["augmentation"]["size"]) == (384, 384)


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
        (["lr=3"], "unknown option 'lr'; nearest: optimizer.lr=3;"),
        (["method.lr=3"], "unknown option 'method.lr'; nearest: optimizer.lr=3;"),
        (["data=folder", "data.imagesize=8"], "nearest: data.image_size=8"),
        (["model=resnet18"], "nearest: backbone=resnet18;"),
        (["backbone=torchvision/resnet8"], "unknown backbone .*nearest: torchvision/resnet18"),
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
        (["trainer.precision=8"], "trainer.precision='8' .* must be 32, bf16-mixed or 16-mixed"),
        (["seed=-1"], "seed=-1 is not allowed"),
        (["seed=x"], "seed='x' .* must be a whole number"),
        (["data.classes=apple"], r"must be a whole number, null or a list \[...\] of whole numbers or texts$"),
        (["loader.workers=2.5"], "loader.workers='2.5' .* must be a whole number or auto"),
        (["trainer.compile=fast"], "must be true, false, default, reduce-overhead or max-autotune"),
        (["name=../up"], r"name='../up' is not allowed"),
        (["name="], "name='' is not allowed"),
        (["name=a\udc80"], r"name='a\\udc80' is not allowed; name must be a name of printable characters"),
        (["name=a\0b"], "name must be a name of printable characters"),
        (["name=" + "a/" * 3000], "name must be a path of at most 32 parts and 1000 bytes"),
        (["data.root="], "data.root='' is not allowed; data.root must be the path of a folder"),
        (["data.root=a\0b"], "data.root must be a path without null bytes"),
        (["data.root=a\udc80b"], "data.root must be a path .* that UTF-8 can write"),
        (["data.root=" + "x" * 5000], "data.root must be a path that is short enough"),
        (["data.root=~no_such_user/x"], "data.root must be a path that begins with the name of a known user"),
        (["trainer.epochs=010"], "trainer.epochs='010' is not allowed; write numbers in plain decimals"),
        (["trainer.epochs=1:30"], "trainer.epochs='1:30' is not allowed; write numbers in plain decimals"),
        (["trainer.epochs=1_000"], "trainer.epochs='1_000' is not allowed; write numbers in plain decimals"),
        (["trainer.epochs=0x10"], "trainer.epochs='0x10' is not allowed; write numbers in plain decimals"),
        (["method.head_weights=[010,1,1,1]"], "method.head_weights='.*010.* write numbers in plain decimals"),
        (["seed=010"], "seed='010' is not allowed; write numbers in plain decimals"),
        (["optimizer.lr=" + "9" * 400], r"optimizer.lr='999.* \.\.\. is not allowed; write numbers in at most 100"),
        (["trainer.epochs=" + "9" * 5000], "write numbers in at most 100 characters"),
        (["data.classes=[a"], "data.classes='.a' is not allowed; data.classes must be .* a list"),
        (["data.classes=[&a [1], *a]"], "data.classes='.* is not allowed; .* an alias repeats a list"),
        (["name=" + "x" * 300], "at most 200 bytes"),
        (["seed=4294967296"], "seed must be from 0 to 4294967295"),
        (["trainer.epochs"], "is not an override; write key=value"),
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
        ("method: plain\nmethod: dtskd\n", "method is given twice"),
        ("include: demo/digits/resnet18/plain\noptimizer: {{lr: 0.5}}\n", "write 'optimizer.<option>: <value>'"),
        ("include: demo/digits/resnet18/plain\noptimizer.lr: null\n", "optimizer.lr=null is not allowed"),
        ("include: demo/digits/resnet18/plain\nseed: null\n", "seed must be from 0"),
        ("include: demo/digits/resnet18/plain\ndata: subprocess:Popen\n", "whose import runs code"),
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


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("trainer.devices=0", "trainer.devices=0 is not allowed; trainer.devices must be a whole number >= 1"),
        ("trainer.devices=100000000", "at most 1024"),
        ("trainer.accelerator=", "trainer.accelerator='' is not allowed"),
        ("trainer.accelerator=a\udc80", r"trainer.accelerator='a\\udc80' is not allowed"),
        ("trainer.epochs=" + "9" * 90, r"trainer.epochs=9{90} is not allowed; .* at most 1000000"),
        ("loader.batch_size=" + "9" * 90, "loader.batch_size=.* at most"),
        ("loader.workers=-1", "loader.workers=-1"),
        ("data.validation_fraction=1", "data.validation_fraction=1.0"),
        ("augmentation.padding=" + "9" * 30, "augmentation.padding=.* at most 65536"),
        ("regularization.mixup=1e308", "regularization.mixup=1e.308 .* 0, or from 0.01 to 1000"),
        ("history.top_k=-1", "history.top_k=-1"),
    ],
)
def test_ranges_are_checked_before_anything_is_looked_for(argument, message):
    """So that a finished run does not take what an unfinished one refuses."""
    with pytest.raises(OptionError, match=message):
        resolve(DTSKD, split_overrides([argument]))


def test_what_only_looks_like_a_number_may_be_a_name():
    recipe = resolve(DTSKD, split_overrides(["data.classes=[010,no,2024-01-01,1_0]"]))
    assert recipe.options["data"]["classes"] == ("010", "no", "2024-01-01", "1_0")


def test_names_that_look_like_numbers_come_back_from_a_file(tmp_path):
    recipe = resolve(DTSKD, split_overrides(["data.classes=[010,no,1e5]", "name=mine"]))
    file = tmp_path / "mine.yaml"
    file.write_text(recipe.to_yaml())
    assert resolve(str(file)) == recipe


@pytest.mark.parametrize("number", ["010", "1:30", "1_000", "0x10"])
def test_numbers_in_a_file_are_plain_decimals(tmp_path, number):
    file = tmp_path / "mine.yaml"
    file.write_text(f"include: {DTSKD}\ntrainer.epochs: {number}\n")
    with pytest.raises(RecipeError, match=f"trainer.epochs='{number}' is not allowed; write numbers in plain decimals"):
        resolve(str(file))


@pytest.mark.parametrize("how", ["file", "two includes", "command line"])
def test_one_rule_for_a_replaced_part_wherever_it_is_replaced(tmp_path, how):
    changes = {"optimizer": "adamw", "optimizer.lr": 0.001}
    lines = "optimizer: adamw\noptimizer.lr: 0.001\n"
    file = tmp_path / "mine.yaml"
    if how == "file":
        file.write_text(f"include: {DTSKD}\n{lines}")
        recipe = resolve(str(file))
    elif how == "two includes":
        (tmp_path / "adamw.yaml").write_text(lines)
        file.write_text(f"include: [{DTSKD}, adamw.yaml]\n")
        recipe = resolve(str(file))
    else:
        recipe = resolve(DTSKD, changes)
    assert recipe.parts["optimizer"] == "adamw"
    own = {"lr": 0.001, "weight_decay": 0.05, "beta1": 0.9, "beta2": 0.999}
    assert recipe.options["optimizer"] == {**own, "head_lr_factor": 1.0, "layer_decay": None}
    assert recipe.options["trainer"]["epochs"] == 300


def test_a_part_that_is_named_again_keeps_its_options(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(f"include: {DTSKD}\noptimizer: sgd\noptimizer.lr: 0.2\n")
    options = resolve(str(file)).options["optimizer"]
    assert (options["lr"], options["weight_decay"]) == (0.2, 5e-4)


def test_a_list_beyond_the_limits_is_said_to_be_one():
    with pytest.raises(RecipeError, match=r"^schedule.milestones='\[1,.* is not allowed; .*more than 20000 values"):
        resolve(DTSKD, {"schedule.milestones": f"[{'1,' * 20_000}]"})


OWN = """\
    import torchvision
    from torch import nn
    from selfkd import Method

    class Broken(Method):
        def __init__(self, backbone, data, *, strength: float = 1.0):
            super().__init__(backbone, data)
            raise KeyError("no such thing")

        def forward(self, batch, progress):
            raise NotImplementedError

    class Unfinished(Method):
        pass

    def network(num_classes):
        return nn.Linear("three", num_classes)

    def without_classes(weights=None):
        raise AssertionError("must not be called")

    def with_a_function(num_classes, *, activation=len):
        raise AssertionError("must not be called")

    def by_text(name: str):
        raise AssertionError("must not be called")

    def by_keyword(*, num_classes):
        raise AssertionError("must not be called")

    def three_classes(classes: int):
        return torchvision.models.resnet18(num_classes=classes)

    def any_name(n):
        return torchvision.models.resnet18(num_classes=n)
"""


def test_a_section_is_built_with_its_options_and_what_the_caller_adds():
    recipe = resolve(DTSKD, {"loader.batch_size": "32", "optimizer.lr": "0.25"})
    assert recipe.build("loader").batch_size == 32
    assert recipe.build("loader", batch_size=16).batch_size == 16
    optimizer = recipe.build("optimizer", [torch.nn.Parameter(torch.zeros(1))])
    assert optimizer.param_groups[0]["lr"] == 0.25


def test_an_option_that_is_refused_while_building_is_named_with_its_section():
    recipe = resolve(DTSKD, {"backbone.width": "0"})
    with pytest.raises(OptionError, match=r"^backbone\.width=0 is not allowed; backbone\.width must be"):
        recipe.build("backbone", 10)
    with pytest.raises(OptionError, match=r"^loader\.batch_size=0 is not allowed; loader\.batch_size must be"):
        recipe.build("loader", batch_size=0)


@pytest.fixture
def own_parts(tmp_path, monkeypatch):
    """Somebody's module with parts that work and parts that do not."""
    (tmp_path / "own_parts.py").write_text(textwrap.dedent(OWN))
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "own_parts.py"
    sys.modules.pop("own_parts", None)


def test_an_own_class_that_raises_is_named_with_its_place(own_parts):
    recipe = resolve(DTSKD, {"method": "own_parts:Broken", "backbone": "own_parts:network"})
    assert recipe.options["method"] == {"strength": 1.0}
    assert list(inspect.signature(recipe.target("backbone")).parameters) == ["num_classes"], "as it was written"
    with pytest.raises(UserError, match=rf"backbone 'own_parts:network' raised TypeError: .*{own_parts}, line 17"):
        recipe.build("backbone", 10)
    import selfkd

    backbone = selfkd.create_backbone("resnet18_cifar", 10, width=4)
    with pytest.raises(
        UserError, match=rf"'own_parts:Broken' raised KeyError: 'no such thing' \({own_parts}, line 8\)"
    ):
        recipe.build("method", backbone, selfkd.DatasetInfo(4, 10))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"method": "selfkd.methods.base:Method"}, r"is abstract: it does not define forward\(\)"),
        ({"method": "own_parts:Unfinished"}, r"is abstract: it does not define forward\(\)"),
        ({"backbone": "own_parts:without_classes"}, "its first parameter 'weights' has the default None"),
        ({"backbone": "own_parts:with_a_function"}, "option backbone.activation=<built-in.*which a recipe cannot hold"),
        ({"backbone": "own_parts:no_such"}, "own_parts:no_such' cannot be imported: AttributeError"),
        ({"method": "selfkd.no_such:Class"}, "'selfkd.no_such:Class' cannot be imported: ModuleNotFoundError"),
        ({"backbone": "own_parts:by_text"}, "its first parameter 'name' has the type str"),
        ({"backbone": "own_parts:by_keyword"}, "it takes no positional argument"),
        ({"backbone": "os:system"}, "the number of classes as its first argument, but it belongs to Python's"),
        ({"backbone": "time:sleep"}, "it belongs to Python's standard library"),
        ({"backbone": "torchvision.models:resnet18"}, "torchvision's network is backbone=torchvision/resnet18"),
        ({"backbone": "torchvision.models.resnet:resnet18"}, "backbone=torchvision/resnet18"),
        ({"backbone": "timm.models:resnet18"}, "timm's network is backbone=resnet18"),
    ],
)
def test_own_parts_that_cannot_be_used_are_refused_and_never_called(own_parts, override, message):
    with pytest.raises(UserError, match=message):
        resolve(DTSKD, override)


@pytest.mark.parametrize("name", ["three_classes", "any_name"])
def test_an_own_network_may_call_its_number_of_classes_otherwise(own_parts, name):
    assert resolve(DTSKD, {"backbone": f"own_parts:{name}"}).parts["backbone"] == f"own_parts:{name}"


def test_an_own_module_that_ends_the_process_is_refused(tmp_path, monkeypatch):
    (tmp_path / "leaver.py").write_text("import sys\nsys.exit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"'leaver:Method' cannot be imported: SystemExit: 3 \(.*leaver.py, line 2\)"):
        resolve(DTSKD, {"method": "leaver:Method"})


PHOTOS = "photos/folder/resnet18/plain"


@pytest.mark.parametrize(
    "data", ["csv", "parquet", "hub", "dataset", "own_datasets:LikeTorchvision", "own_datasets:by_split"]
)
def test_own_images_of_another_kind_keep_the_protocol_of_the_photos(data, tmp_path):
    overrides = {"data": data, **({"data.root": "x"} if data == "own_datasets:LikeTorchvision" else {})}
    overrides |= {"data.folder": "x"} if data == "own_datasets:by_split" else {}
    recipe = resolve(PHOTOS, overrides)
    options = recipe.options["data"]
    assert (options["image_size"], options["validation_fraction"]) == (224, 0.1)
    assert recipe.options["augmentation"]["size"] == 224
    assert recipe.name.startswith(f"{PHOTOS}+data={data}")
    assert resolve(PHOTOS, {**overrides, "data.image_size": 224}).name == recipe.name
    file = tmp_path / "recipe.yaml"
    file.write_text(f"include: {PHOTOS}\n" + "".join(f"{key}: {value}\n" for key, value in overrides.items()))
    assert resolve(str(file), trust_imports=True).options == recipe.options


def test_a_resolved_recipe_keeps_what_all_own_images_have_and_drops_the_rest():
    mine = {"data.root": "photos", "data.train_split": "fit", "data.classes": ["cat", "dog"], "data.mean": [0.5] * 3}
    options = resolve(resolve(PHOTOS, mine), {"data": "csv"}).options["data"]
    assert options["classes"] == ("cat", "dog")
    assert options["mean"] == (0.5, 0.5, 0.5)
    assert options["root"] is None
    assert options["train_split"] is None


def test_a_source_of_ones_own_takes_the_shared_options_that_it_has(tmp_path):
    overrides = {"data": "own_datasets:Pixels", "augmentation": "none"}
    options = resolve(PHOTOS, overrides).options["data"]
    assert options["validation_fraction"] == 0.1
    assert "image_size" not in options
    with pytest.raises(UnknownNameError, match="unknown option 'data.image_size'"):
        resolve(PHOTOS, {**overrides, "data.image_size": 64})
    file = tmp_path / "pixels.yaml"
    file.write_text(f"include: {PHOTOS}\ndata: own_datasets:Pixels\naugmentation: none\n")
    assert resolve(str(file), {"trainer.epochs": 7}, trust_imports=True).name == "pixels+trainer.epochs=7"


@pytest.mark.parametrize(("before", "after"), [("digits", "folder"), ("folder", "imagenet"), ("cifar10", "csv")])
def test_another_change_of_the_data_set_drops_the_options(before, after):
    flat = {"data": before, "data.validation_fraction": 0.3, "seed": 1}
    assert override(flat, {"data": after}) == {"data": after, "seed": 1}


def test_the_options_that_own_images_share_are_those_of_their_base_class():
    assert {name for name in DATASETS if issubclass(DATASETS.load(name), OwnImages)} == OWN_IMAGES
    assert {each.name for each in fields(OwnImages)} - {"train_split", "test_split"} == SHARED_OPTIONS


def test_a_folder_or_a_csv_file_in_place_of_a_data_set_brings_the_options_that_read_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small").mkdir()
    (tmp_path / "labels.csv").write_text("path,label\n")
    with pytest.raises(OptionError, match="for this folder, write data=folder data.root=small$"):
        resolve(PHOTOS, {"data": "small"})
    with pytest.raises(OptionError, match="for this CSV file, write data=csv data.root=labels.csv$"):
        resolve(PHOTOS, {"data": "labels.csv"})
    for neither in ("", "smal", "a\0b", "~nobody-of-this-name"):
        with pytest.raises(UnknownNameError, match="unknown data set"):
            resolve(PHOTOS, {"data": neither})
