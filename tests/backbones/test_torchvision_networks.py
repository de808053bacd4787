import pytest
import timm
import torch
import torchvision
from torchvision.models import get_model, get_model_weights, list_models

import seats
import selfkd
from selfkd.backbones import network_factory
from selfkd.backbones.torchvision_stages import TIMM_NAMES, TORCHVISION_STAGES
from selfkd.cli import main
from selfkd.errors import BackboneError, OptionError, UserError
from selfkd.methods import METHODS
from selfkd.recipes.options_help import options_help
from selfkd.recipes.reader import resolve

# One small member of each family, and the size on which it is tried.
FAMILIES = {
    "alexnet": 96,
    "convnext_tiny": 64,
    "densenet121": 64,
    "efficientnet_b0": 64,
    "efficientnet_v2_s": 64,
    "googlenet": 64,
    "inception_v3": 96,
    "maxvit_t": 224,
    "mnasnet0_5": 64,
    "mobilenet_v2": 64,
    "mobilenet_v3_large": 64,
    "mobilenet_v3_small": 64,
    "regnet_x_400mf": 64,
    "regnet_y_400mf": 64,
    "resnet18": 64,
    "resnext50_32x4d": 64,
    "shufflenet_v2_x0_5": 64,
    "squeezenet1_0": 64,
    "squeezenet1_1": 64,
    "swin_t": 64,
    "swin_v2_t": 64,
    "vgg11": 64,
    "vgg11_bn": 64,
}
# Their classifiers begin with layers of their own, or pool another map.
WITHOUT_AUXILIARY = {"aux_logits": False, "init_weights": True}
SLOW = {"maxvit_t", "vgg11", "vgg11_bn"}
OWN_CLASSIFIERS = {"alexnet", "vgg11", "vgg11_bn", "squeezenet1_0", "squeezenet1_1", "convnext_tiny", "maxvit_t"}


# They compute their widths with tensors, which have no values where networks are built without memory. Two of them are
# built with it, and all have their stages' names.
REGNETS = {name for name in TORCHVISION_STAGES if name.startswith("regnet")}


def test_regnets_have_the_stages_of_those_that_are_staged():
    assert len(REGNETS - set(FAMILIES)) > 10
    assert len({TORCHVISION_STAGES[name] for name in REGNETS}) == 1


def test_every_classification_network_is_known():
    assert {*TORCHVISION_STAGES, *TIMM_NAMES} == set(list_models(torchvision.models))
    assert all(timm.is_model(name) for name in TIMM_NAMES.values())


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in FAMILIES]
)
def test_it_is_torchvisions_network_with_its_keys_and_its_logits(name):
    torch.manual_seed(0)
    staged = selfkd.create_backbone(f"torchvision/{name}", 7, input_size=FAMILIES[name])
    plain = get_model(name, num_classes=7, **(WITHOUT_AUXILIARY if name in ("googlenet", "inception_v3") else {}))
    assert list(staged.network.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(staged.network.state_dict())
    images = torch.randn(2, 3, FAMILIES[name], FAMILIES[name])
    with torch.no_grad():
        features = staged.eval()(images)
        assert torch.equal(features.logits, plain.eval()(images))
    assert tuple(tuple(stage.shape[1:]) for stage in features.stages) == staged.stage_shapes
    sizes = [height for _, height, _ in staged.stage_shapes]
    assert sizes == sorted(set(sizes), reverse=True), "each of another size, shallow to deep"
    assert staged.final_shape[1] == sizes[-1]
    assert torch.allclose(features.final.mean((2, 3)), features.pooled)
    if name not in OWN_CLASSIFIERS:
        classifier = [module for module in staged.network.modules() if isinstance(module, torch.nn.Linear)][-1]
        if classifier.in_features == staged.num_features:
            assert torch.allclose(classifier(features.pooled), features.logits, atol=1e-5), "what the classifier pools"
    features = staged.train()(images)
    (features.logits.sum() + features.final.sum() + sum(each.sum() for each in features.stages)).backward()
    assert all(parameter.grad is not None for parameter in staged.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(TORCHVISION_STAGES) - set(FAMILIES) - REGNETS))
def test_every_network_can_be_staged(name):
    with torch.device("meta"):
        network = network_factory(f"torchvision/{name}")(7)
        staged = selfkd.stage(network, input_size=128)
    sizes = [height for _, height, _ in staged.stage_shapes]
    assert sizes == sorted(set(sizes), reverse=True)


@pytest.mark.parametrize(("name", "side"), [("resnet18", 224), ("efficientnet_v2_s", 384), ("mobilenet_v2", 224)])
def test_it_knows_its_input_size_and_normalisation(name, side):
    network = network_factory(f"torchvision/{name}")(7)
    assert network.pretrained_cfg["input_size"] == (3, side, side)
    assert network.pretrained_cfg["mean"] == (0.485, 0.456, 0.406)
    assert network.pretrained_cfg["interpolation"] in ("bilinear", "bicubic")


def test_methods_train_on_it():
    torch.manual_seed(0)
    staged = selfkd.create_backbone("torchvision/resnet18", 7, input_size=64)
    batch = selfkd.Batch(torch.randn(2, 3, 64, 64), torch.tensor([1, 3]), torch.tensor([0, 2]))
    for name in (name for name in METHODS if not METHODS.load(name).needs.own_blocks):
        method = seats.create_method(name, staged, selfkd.DatasetInfo(4, 7))
        method.begin_epoch(selfkd.Progress(0, 2))
        method(batch, selfkd.Progress(0, 2)).loss.backward()
        assert torch.isfinite(staged.network.conv1.weight.grad).all()


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "googlenet"])
@pytest.mark.parametrize("num_classes", [7, 1000])
def test_pretrained_weights_are_torchvisions_but_for_the_classifier(name, num_classes, monkeypatch):
    published = get_model(
        name, num_classes=1000, **({"init_weights": True} if name == "googlenet" else {})
    ).state_dict()
    asked = {}

    def state_dict(self, **options):
        asked.update(options)
        if name == "densenet121":  # as its published weights name their layers
            return {
                key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): weight
                for key, weight in published.items()
            }
        return dict(published)

    monkeypatch.setattr(type(get_model_weights(name).DEFAULT), "get_state_dict", state_dict)
    network = network_factory(f"torchvision/{name}")(num_classes, pretrained=True)
    assert asked["weights_only"] is True
    same = {key for key, weight in network.state_dict().items() if torch.equal(weight, published[key])}
    fresh = set() if num_classes == 1000 else {key for key in published if key.startswith(("fc.", "classifier."))}
    assert same == set(network.state_dict()) - fresh


def test_weights_that_cannot_be_had_are_said(monkeypatch):
    def without_network(self, **options):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(type(get_model_weights("resnet18").DEFAULT), "get_state_dict", without_network)
    said = r"weights of torchvision network 'resnet18' cannot be fetched .*Network is .*backbone.weights=FILE"
    with pytest.raises(BackboneError, match=said):
        network_factory("torchvision/resnet18")(7, pretrained=True)


def test_what_it_does_not_know_is_said():
    with pytest.raises(BackboneError, match="torchvision network 'resnet18' cannot be built with {'dropout': 0.5}"):
        network_factory("torchvision/resnet18")(7, dropout=0.5)
    with pytest.raises(OptionError, match="widht"):
        selfkd.create_backbone("torchvision/resnet18", 7, widht=3)
    with pytest.raises(
        UserError, match="^torchvision's vit_b_16 gives no stage maps; timm's network does: backbone=vit_base_"
    ):
        selfkd.create_backbone("torchvision/vit_b_16", 7)


def test_recipes_name_it_and_files_need_no_trust(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("include: demo/digits/resnet18/plain\nbackbone: torchvision/resnet18\n")
    recipe = resolve(str(file))
    assert recipe.options["backbone"] == {
        "pretrained": False,
        "dropout": None,
        "img_size": None,
        "weights": None,
    }
    assert "backbone=torchvision/resnet18" in options_help(recipe.parts, recipe.flat())
    named = resolve("demo/digits/resnet18/plain", {"backbone": "torchvision/resnet18"})
    assert named.name == "demo/digits/resnet18/plain+backbone=torchvision_resnet18"


def test_the_list_of_backbones_says_so(capsys):
    assert main(["list", "backbones"]) == 0
    assert "torchvision's networks as 'torchvision/resnet18'" in capsys.readouterr().out


@pytest.mark.parametrize("more", [[], ["--help"]])
def test_its_import_path_is_refused_without_a_download(capsys, more):
    arguments = ["train", "demo/digits/resnet18/plain", "backbone=torchvision.models:resnet18", *more]
    assert main(arguments) == 2
    assert "torchvision's network is backbone=torchvision/resnet18" in capsys.readouterr().err
