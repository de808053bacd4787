"""Images are prepared as a network's pretrained weights expect them, unless somebody says otherwise."""

import dataclasses

import pytest
import torch
import yaml
from torchvision.models import get_model_weights
from torchvision.transforms import v2

from accuracies import accuracies
from image_sets import digit, write_folder
from selfkd.api import load
from selfkd.backbones.pretrained import preprocessing_of
from selfkd.backbones.torchvision_stages import TORCHVISION_STAGES
from selfkd.contract import Preprocessing
from selfkd.data.sources.preprocessing import options_for
from selfkd.errors import OptionError
from selfkd.recipes.reader import resolve
from selfkd.runs import networks
from selfkd.runs.checkup import check
from selfkd.runs.train import run

DEMO = "demo/digits/resnet18/plain"
VIT = {"backbone": "vit_tiny_patch16_224", "backbone.pretrained": "true"}
IMAGENETS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALVES = (0.5, 0.5, 0.5)


def data_of(**overrides):
    dotted = {key.replace("__", "."): value for key, value in overrides.items()}
    return resolve(DEMO, {"data": "folder", "data.root": "photos", **dotted}).options["data"]


def prepared(options):
    return tuple(options[name] for name in ("mean", "std", "image_size", "resize", "interpolation"))


def test_timm_says_what_its_weights_expect():
    assert preprocessing_of("resnet18") == Preprocessing(*IMAGENETS, "bicubic", 224, 0.95)
    assert preprocessing_of("inception_v3.gluon_in1k") == Preprocessing(*IMAGENETS, "bicubic", 299, 0.875)
    assert preprocessing_of("dm_nfnet_f0").crop_mode == "squash"
    assert preprocessing_of("resnet18_cifar") is None
    assert preprocessing_of("package.module:Name") is None


@pytest.mark.parametrize("name", TORCHVISION_STAGES)
def test_torchvisions_transforms_say_what_its_weights_expect(name):
    expected = get_model_weights(name).DEFAULT.transforms()
    preprocessing = preprocessing_of(f"torchvision/{name}")
    assert [preprocessing.side] == expected.crop_size
    assert preprocessing.crop_mode == "center"
    data = dict.fromkeys(("image_size", "resize", "mean", "interpolation"))
    followed = options_for(preprocessing, {"data": data})["data"]
    assert [followed["resize"]] == expected.resize_size
    assert followed["interpolation"] == expected.interpolation.value
    assert followed["mean"] == (HALVES if name in ("googlenet", "inception_v3") else tuple(expected.mean))


def test_what_nobody_gave_follows_the_pretrained_weights():
    torchvisions = {"backbone": "torchvision/resnet18", "backbone.pretrained": "true"}
    assert prepared(data_of(**torchvisions)) == (*IMAGENETS, 224, 256, "bilinear")
    assert prepared(data_of(**VIT)) == (HALVES, HALVES, 224, 248, "bicubic")
    assert prepared(data_of(**VIT, data__image_size="100")) == (HALVES, HALVES, 100, 111, "bicubic")
    given = {"data.interpolation": "bilinear", "data.resize": "224"}
    assert prepared(data_of(**VIT, **given)) == (HALVES, HALVES, 224, 224, "bilinear")


def test_random_parts_are_scaled_as_the_weights_expect_unless_somebody_says_otherwise():
    def interpolation(**overrides):
        dotted = {key.replace("__", "."): value for key, value in overrides.items()}
        recipe = resolve("loth/imagenet/resnet18/plain", {"data.root": "photos", **dotted})
        built = recipe.build("augmentation")
        assert built.interpolation == recipe.flat()["augmentation.interpolation"]
        return built.interpolation

    assert interpolation(**VIT) == "bicubic"
    assert interpolation(**VIT, augmentation__interpolation="bilinear") == "bilinear"
    assert interpolation(**VIT, data__interpolation="bilinear") == "bicubic"
    assert interpolation(**VIT, data__mean="[0.25,0.25,0.25]") == "bilinear"
    assert interpolation(backbone="vit_tiny_patch16_224") == "bilinear"
    assert interpolation(backbone="torchvision/resnet18", backbone__pretrained="true") == "bilinear"
    assert interpolation(augmentation__interpolation="bicubic") == "bicubic"


@pytest.mark.parametrize("data", ["imagenet", "cifar100", "digits"])
def test_every_data_set_follows_with_the_options_that_it_has(data):
    options = resolve(DEMO, {"data": data, "data.root": "photos", **VIT} if data != "digits" else VIT).options["data"]
    assert (options["mean"], options["std"]) == (HALVES, HALVES)
    assert options.get("interpolation", "bicubic") == "bicubic"
    assert options.get("image_size", 224) == {"imagenet": 224, "cifar100": 224, "digits": 16}[data]


def test_nothing_follows_without_pretrained_weights_or_beside_a_mean_that_was_given():
    alone = data_of(backbone="vit_tiny_patch16_224", data__image_size="224")
    assert prepared(alone) == (*IMAGENETS, 224, None, "bilinear")
    own = (0.25, 0.25, 0.25)
    mean = data_of(**VIT, data__image_size="224", data__mean="[0.25,0.25,0.25]")
    assert prepared(mean) == (own, IMAGENETS[1], 224, None, "bilinear")
    assert prepared(data_of(**VIT, data__std="[0.25,0.25,0.25]"))[:3] == (IMAGENETS[0], own, None)


def test_a_stored_recipe_resolves_to_itself_whatever_its_age(tmp_path):
    recipe = resolve(DEMO, {"data": "folder", "data.root": "photos", **VIT})
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe.to_yaml())
    assert resolve(str(file)).options == recipe.options
    older = {**recipe.flat(), "data.mean": list(IMAGENETS[0]), "data.std": list(IMAGENETS[1]), "data.resize": None}
    del older["data.interpolation"]
    file.write_text(yaml.safe_dump(older))
    assert prepared(resolve(str(file)).options["data"]) == (*IMAGENETS, 224, None, "bilinear")

    recipe = resolve("loth/imagenet/resnet18/plain", {"data.root": "photos", **VIT})
    file.write_text(recipe.to_yaml())
    assert resolve(str(file)).options == recipe.options
    older = recipe.flat()
    assert older.pop("augmentation.interpolation") == "bicubic"
    file.write_text(yaml.safe_dump(older))
    kept = {**recipe.options["augmentation"], "interpolation": "bilinear"}
    assert resolve(str(file)).options == {**recipe.options, "augmentation": kept}


def test_a_run_trains_evaluates_and_predicts_with_what_the_weights_expect(tmp_path, published_vit):
    published_vit(10)
    root = write_folder(tmp_path / "photos", 8)
    recipe = resolve(
        DEMO,
        {
            "data": "folder",
            "data.root": str(root),
            "backbone": "test_vit",
            "backbone.pretrained": "true",
            "trainer.epochs": "1",
        },
    )
    folder = run(recipe, tmp_path / "runs", show_progress=False)
    expected = preprocessing_of("test_vit")
    assert prepared(folder.recipe().options["data"])[:3] == (expected.mean, expected.std, expected.side)
    loaded = load(folder.path)
    steps = [v2.Resize(int(expected.side / expected.crop_fraction), v2.InterpolationMode(expected.interpolation))]
    steps += [v2.CenterCrop(expected.side), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    by_hand = v2.Compose([*steps, v2.Normalize(expected.mean, expected.std)])(digit(3))
    assert torch.allclose(loaded.transform(digit(3)), by_hand)
    assert accuracies(folder.path)["main"]["top1"] == folder.scores()["last"]["scores"]["test"]["main"]["top1"]


def test_the_doctor_says_what_the_weights_expect_and_whether_they_get_it(tmp_path):
    root = write_folder(tmp_path / "photos", 12)

    def said(**more):
        report = check(str(root), {**VIT, **{key.replace("__", "."): value for key, value in more.items()}}, quick=True)
        return [finding for finding in report.findings if finding.subject == "pretrained weights"]

    (finding,) = said()
    assert finding.severity == "note"
    assert (
        "the weights of vit_tiny_patch16_224 expect data.image_size=224 data.resize=248 data.interpolation=bicubic "
        in str(finding)
    )
    assert str(finding).endswith("data.mean=[0.5,0.5,0.5] data.std=[0.5,0.5,0.5]; the options are the same")
    (finding,) = said(data__image_size="224", data__mean="[0.25,0.25,0.25]")
    assert finding.severity == "warning"
    assert "the options differ: data.resize=224 data.interpolation=bilinear data.mean=[0.25,0.25,0.25]" in str(finding)
    assert not said(backbone__pretrained="false", data__image_size="224")


@pytest.mark.parametrize(("crop_mode", "made"), [("squash", "stretched"), ("border", "padded"), ("center", None)])
def test_the_doctor_warns_of_weights_that_expect_no_centre_cut_out(tmp_path, monkeypatch, crop_mode, made):
    expected = dataclasses.replace(preprocessing_of("resnet18"), crop_mode=crop_mode)
    monkeypatch.setattr(networks, "preprocessing_of", lambda name: expected)

    def warnings(data, **options):
        weights = {"backbone": "resnet18", "backbone.pretrained": "true"}
        report = check(data, {**weights, **options}, quick=True)
        found = [each for each in report.findings if each.subject == "pretrained weights" and "square" in str(each)]
        assert {each.severity for each in found} <= {"warning"}
        return [str(each) for each in found]

    root = write_folder(tmp_path / "photos", 12)
    if made is None:
        assert not warnings(str(root))
    else:
        (warning,) = warnings(str(root))
        assert f"the weights of resnet18 expect images that were {made} to a square; here the centre is cut" in warning
    assert not warnings("digits"), "whose images are square already"


def test_an_interpolation_that_is_none_is_refused():
    from selfkd.data.sources.folder import Folder

    with pytest.raises(OptionError, match="data.interpolation='best' .* one of bicubic, bilinear"):
        Folder(interpolation="best")
