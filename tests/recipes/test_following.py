"""A resolved recipe, and its file, take a change as the recipe's name does: what follows others follows again."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from selfkd.errors import RecipeError
from selfkd.export.network_files import METADATA_KEY
from selfkd.recipes.reader import resolve

DEMO = "demo/digits/resnet18/plain"
CROPPED = {"data": "folder", "data.root": "photos", "augmentation": "random_resized_crop", "data.image_size": 32}
VIT = {"data": "folder", "data.root": "photos", "backbone": "vit_tiny_patch16_224", "backbone.pretrained": True}
MUTUAL = {"method": "dml", "backbone.width": 4}


def weights_with_mean(file, mean):
    metadata = {"mean": [mean] * 3, "std": [0.5] * 3, "input_size": [3, 32, 32], "interpolation": "bilinear"}
    save_file({"fc.bias": torch.ones(1)}, file, {METADATA_KEY: json.dumps(metadata)})
    return str(file)


@pytest.fixture(params=["recipe", "file", "included"])
def again(request, tmp_path):
    """Resolves a resolved recipe with changes, or the file that a run keeps of it, or a file that includes this."""

    def change(recipe, changes):
        if request.param == "recipe":
            return resolve(recipe, changes)
        stored = tmp_path / "recipe.yaml"
        stored.write_text(recipe.to_yaml())
        if request.param == "file":
            return resolve(str(stored), changes)
        including = tmp_path / "including.yaml"
        including.write_text(
            "".join([f"include: {stored}\n", *(f"{key}: {value}\n" for key, value in changes.items())])
        )
        return resolve(str(including))

    return change


@pytest.mark.parametrize(
    ("given", "changes"),
    [
        (CROPPED, {"data.image_size": 64}),
        ({**CROPPED, "augmentation.size": 32, "data.image_size": 32}, {"trainer.epochs": 2}),
        (VIT, {"backbone": "test_vit", "backbone.pretrained": True}),
        (VIT, {"backbone.pretrained": False}),
        ({**VIT, "backbone.pretrained": False}, {"backbone.pretrained": True}),
        (VIT, {"data.image_size": 384}),
        ({**VIT, "data.resize": 300}, {"data.image_size": 240}),
        (VIT, {"data.interpolation": "bilinear"}),
        (VIT, {"trainer.epochs": 2}),
        (MUTUAL, {"backbone.width": 8}),
        ({**MUTUAL, "peer.width": 2}, {"backbone.width": 8}),
        (MUTUAL, {"backbone": "resnet34_cifar", "backbone.width": 4}),
        (MUTUAL, {"method": "plain"}),
    ],
)
def test_a_change_gives_what_it_gives_with_the_recipes_name(again, given, changes):
    expected = resolve(DEMO, {**given, **changes})
    recipe = again(resolve(DEMO, given), changes)
    assert recipe.options == expected.options
    assert recipe.parts == expected.parts
    assert recipe.following == expected.following


def test_the_mean_follows_another_file_of_weights(again, tmp_path):
    def weights(name, mean):
        return weights_with_mean(tmp_path / f"{name}.safetensors", mean)

    first, second = weights("first", 0.25), weights("second", 0.75)
    given = {"data": "folder", "data.root": "photos", "data.image_size": 32}
    recipe = resolve(DEMO, {**given, "backbone.weights": first})
    assert recipe.options["data"]["mean"] == (0.25,) * 3
    assert again(recipe, {"backbone.weights": second}).options["data"]["mean"] == (0.75,) * 3
    assert again(resolve(DEMO, given), {"backbone.weights": second}).options["data"]["mean"] == (0.75,) * 3
    kept = resolve(DEMO, {**given, "backbone.weights": first, "data.mean": [0.5] * 3})
    assert again(kept, {"backbone.weights": second}).options["data"]["mean"] == (0.5,) * 3


def test_a_run_keeps_what_followed_a_file_that_is_gone(tmp_path):
    file = weights_with_mean(tmp_path / "weights.safetensors", 0.25)
    given = {"data": "folder", "data.root": "photos", "data.image_size": 32, "backbone.weights": file}
    recipe = resolve(DEMO, given)
    Path(file).unlink()
    stored = tmp_path / "recipe.yaml"
    stored.write_text(recipe.to_yaml())
    moved = resolve(str(stored), {"data.root": "elsewhere", "trainer.epochs": 2})
    assert moved.options["data"]["mean"] == (0.25,) * 3
    assert not moved.undecided
    assert "data.mean" in resolve(str(stored), {"backbone.weights": str(tmp_path / "gone.pth")}).undecided


def test_an_option_that_changes_again_is_named_once():
    first = resolve(DEMO, {"method": "dtskd", "method.beta_max": 0.5, "trainer.epochs": 3})
    assert resolve(first, {"trainer.epochs": 4}).name == f"{DEMO}+method=dtskd+method.beta_max=0.5+trainer.epochs=4"
    assert resolve(first, {"method": "loth"}).name == f"{DEMO}+trainer.epochs=3+method=loth"
    classes = [f"class{number}" for number in range(40)]
    many = resolve(DEMO, {"data": "folder", "data.classes": classes, "trainer.epochs": 3})
    before, _, end = many.name.partition("+trainer.epochs=3")
    assert re.fullmatch(r".*-[0-9a-f]{8}", end), "a name that does not show everything"
    assert resolve(many, {"trainer.epochs": 4}).name == f"{before}{end}+trainer.epochs=4"


def test_the_list_of_what_follows_is_checked(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(f"include: {DEMO}\nfollowing: 3\n")
    with pytest.raises(RecipeError, match=r"recipe.yaml: following=3 is not allowed; following must be a list of keys"):
        resolve(str(file))
