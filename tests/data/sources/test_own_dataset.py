from dataclasses import fields

import pytest

from image_sets import write_folder
from selfkd.data import source_class
from selfkd.errors import DataError, OptionError, UnknownNameError, UserError
from selfkd.recipes.reader import resolve


@pytest.fixture
def images(tmp_path):
    write_folder(tmp_path / "set" / "train", 6)
    write_folder(tmp_path / "set" / "test", 3, start=6)
    return tmp_path / "set"


def recipe_of(data, **overrides):
    return resolve("demo/digits/resnet18/plain", {"data": f"own_datasets:{data}", "data.image_size": 16, **overrides})


def splits_of(data, **overrides):
    return recipe_of(data, **overrides).build("data").load(seed=0)


def test_train_true_and_false_give_the_two_splits(images):
    recipe = recipe_of("LikeTorchvision", **{"data.root": str(images)})
    options = recipe.options["data"]
    assert (options["root"], options["download"], options["largest"]) == (str(images), False, 2)
    assert not {"train", "transform", "target_transform", "given"} & set(options)
    assert resolve_again(recipe) == recipe.flat()
    splits = recipe.build("data").load(seed=0)
    assert splits.class_names == ("zero", "one", "two")
    assert (len(splits.train), len(splits.test)) == (18, 9)
    two = splits_of("LikeTorchvision", **{"data.root": str(images), "data.largest": 1, "data.classes": 2})
    assert (len(two.train), len(two.test)) == (12, 6)
    with pytest.raises(OptionError, match="data.train_split='fit' .* gives the splits train and test alone"):
        splits_of("LikeTorchvision", **{"data.root": str(images), "data.train_split": "fit"})


def resolve_again(recipe):
    flat = {key: value for key, value in recipe.flat().items() if key != "name"}
    return resolve("demo/digits/resnet18/plain", {**flat, "name": recipe.name}).flat()


def test_split_names_the_splits(images):
    splits = splits_of("by_split", **{"data.folder": str(images), "data.colours": "[3]"})
    assert (len(splits.train), len(splits.test)) == (18, 9)
    named = {"data.folder": str(images), "data.train_split": "fit"}
    assert splits_of("by_split", **named).fingerprint() == splits.fingerprint()
    message = r"data 'own_datasets:by_split' with split='val' raised ValueError: unknown split val \(.*own_datasets.py"
    with pytest.raises(DataError, match=message):
        splits_of("by_split", **{"data.folder": str(images), "data.test_split": "val"})


def test_a_function_gives_one_dataset_or_a_mapping():
    assert {name: len(split) for name, split in splits_of("alone").by_name.items()} == {"train": 24, "test": 6}
    assert {name: len(split) for name, split in splits_of("mapping").by_name.items()} == {"train": 30, "test": 15}


def test_a_source_is_the_data_set_itself():
    recipe = resolve("demo/digits/resnet18/plain", {"data": "own_datasets:Pixels", "data.side": 14})
    assert recipe.options["data"].keys() == {each.name for each in fields(source_class("own_datasets:Pixels"))}
    assert recipe.build("data").load(seed=0).train.input_size == (3, 14, 14)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("Nowhere", "data set 'own_datasets:Nowhere' cannot be imported: AttributeError"),
        ("nothing", "data 'own_datasets:nothing' is 5; it must be a class of selfkd's Source, or a class or function"),
        ("needing", "data 'own_datasets:needing' needs the argument function, which a recipe cannot give"),
        ("several", r"data 'own_datasets:several' is \[\{.*; it must be a class of selfkd's Source, or a class or"),
        ("clashing", "has the argument mean, a name that every data set uses itself; give the argument another name"),
        ("reading", "has the argument read, a name that every data set uses itself; give the argument another name"),
        ("Source", "data 'own_datasets:Source' is abstract: it does not define image_transform"),
        ("by_split", "data.folder has no default; add data.folder=<value>"),
    ],
)
def test_what_cannot_be_a_data_set_is_refused(data, message):
    with pytest.raises(UserError, match=message):
        recipe_of(data)


def test_mistakes_of_the_user_are_named(images):
    with pytest.raises(UnknownNameError, match="unknown option 'data.larges'; nearest: data.largest"):
        recipe_of("LikeTorchvision", **{"data.root": str(images), "data.larges": 1})
    with pytest.raises(UserError, match="data.largest='a' is not allowed; data.largest must be a whole number"):
        recipe_of("LikeTorchvision", **{"data.root": str(images), "data.largest": "a"})
    with pytest.raises(DataError, match="data 'sys:exit' raised SystemExit"):
        resolve("demo/digits/resnet18/plain", {"data": "sys:exit"}).build("data").load(seed=0)
    message = r"with train=True raised RuntimeError: Dataset not found in .*; use download=True \(.*own_datasets.py"
    with pytest.raises(DataError, match=message):
        splits_of("LikeTorchvision", **{"data.root": str(images / "nowhere")})
