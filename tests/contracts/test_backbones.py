"""What holds for every backbone: ours and a family of timm each."""

import itertools

import pytest
import torch

import seats
import selfkd
from selfkd.backbones import BACKBONES, network_factory
from selfkd.backbones.parameter_parts import parameter_parts
from selfkd.errors import BackboneError
from selfkd.export.network_files import save_network
from selfkd.runs.starting_weights import load_starting_weights

# One small member of each family; the size is what the network takes at least.
FAMILIES = {
    "resnet18": 64,
    "seresnet18": 64,
    "resnext26ts": 64,
    "vgg11_bn": 32,
    "mobilenetv2_050": 64,
    "mobilenetv3_small_050": 64,
    "efficientnet_b0": 64,
    "convnext_atto": 64,
    "regnetx_002": 64,
    "densenet121": 64,
    "repvgg_a0": 64,
    "ghostnet_050": 64,
    "vit_tiny_patch16_224": 224,
    "swin_tiny_patch4_window7_224": 224,
    "edgenext_xx_small": 64,
    "hrnet_w18_small": 64,
    "mobilenetv1_100": 64,
    "poolformer_s12": 64,
    "mixer_s32_224": 224,
}
OURS = dict.fromkeys(BACKBONES, 32)


def size_of(name):
    return {**FAMILIES, **OURS}[name]


def options_of(name):
    return {"width": seats.small_width(name)} if name in OURS else {}


def built(name):
    return selfkd.create_backbone(name, 7, input_size=size_of(name), **options_of(name))


@pytest.mark.parametrize("name", [*FAMILIES, *OURS])
def test_features_and_logits_come_out_and_the_network_is_untouched(name):
    torch.manual_seed(0)
    network = network_factory(name)(7, **options_of(name)).eval()
    keys = list(network.state_dict())
    images = torch.randn(2, 3, size_of(name), size_of(name))
    with torch.no_grad():
        logits = network(images)
        staged = selfkd.stage(network, input_size=size_of(name))
        features = staged(images)
    assert torch.equal(features.logits, logits)
    assert staged.network is network
    assert list(network.state_dict()) == keys
    assert len(features.stages) == 4
    assert tuple(tuple(stage.shape[1:]) for stage in features.stages) == staged.stage_shapes
    assert tuple(features.final.shape[1:]) == staged.final_shape
    assert features.pooled.shape == (2, staged.num_features)
    assert features.logits.shape == (2, staged.num_classes) == (2, 7)
    heights = [height for _, height, _ in staged.stage_shapes]
    assert heights == sorted(heights, reverse=True), "shallow to deep"
    if "vit" not in name:  # a class token is no average of the map
        assert torch.allclose(features.final.mean((2, 3)), features.pooled, atol=1e-5)


@pytest.mark.parametrize("name", [*FAMILIES, *OURS])
def test_cut_after_a_stage_it_gives_that_stages_map_from_the_same_tensors(name):
    torch.manual_seed(0)
    staged = built(name).eval()
    keys = list(staged.network.state_dict())
    images = torch.randn(2, *staged.input_size)
    own = {id(tensor) for tensor in (*staged.network.parameters(), *staged.network.buffers())}
    parts = [staged.up_to(index).eval() for index in range(4)]
    sizes = [sum(parameter.numel() for parameter in part.parameters()) for part in parts]
    assert sizes == sorted(sizes)
    with torch.no_grad():
        features = staged(images)
        for part, stage_map in zip(parts, features.stages, strict=True):
            assert torch.equal(part(images), stage_map)
            assert {id(tensor) for tensor in (*part.parameters(), *part.buffers())} <= own
        assert torch.equal(staged(images).logits, features.logits), "the network itself stays whole"
    assert list(staged.network.state_dict()) == keys


@pytest.mark.parametrize("name", OURS)
def test_cut_after_a_stage_it_holds_nothing_that_the_map_does_not_need(name):
    staged = built(name)
    for index in range(4):
        part = staged.up_to(index)
        part(torch.randn(2, *staged.input_size)).sum().backward()
        assert all(parameter.grad is not None for parameter in part.parameters())
        staged.zero_grad()


@pytest.mark.parametrize("name", OURS)
def test_stages_and_classifiers_grown_from_it_fit_and_are_fresh(name):
    torch.manual_seed(0)
    staged = built(name).eval()
    features = staged(torch.randn(2, *staged.input_size))
    for index, (before, after) in enumerate(itertools.pairwise(features.stages), start=1):
        grown = staged.new_stage(index)
        assert grown(before).shape == after.shape
        own = staged.network.get_submodule(staged.network.feature_info[index]["module"])
        assert [parameter.shape for parameter in grown.parameters()] == [
            parameter.shape for parameter in own.parameters()
        ]
        for fresh, trained in zip(grown.parameters(), own.parameters(), strict=True):
            assert fresh.ndim < 4 or not torch.equal(fresh, trained), "convolutions are drawn anew"
        assert staged.new_stage(index, depth=1)(before).shape == after.shape
        wide = staged.new_stage(index, depth=2, width_factor=2)(before)
        assert wide.shape[1] == 2 * after.shape[1]
        assert wide.shape[2:] == after.shape[2:]
        assert staged.stage_depth(index) == len(own)
    assert staged.new_stage(0).state_dict().keys() == staged.network.layer1.state_dict().keys()
    assert staged.new_final()(features.stages[-1]).shape == features.final.shape
    wide_final = staged.new_final(width_factor=2)(staged.new_stage(3, width_factor=2)(features.stages[2]))
    assert wide_final.shape == (2, 2 * staged.num_features, *features.final.shape[2:])
    assert staged.new_final().state_dict().keys() == staged.network.final.state_dict().keys()
    assert staged.new_classifier()(features.pooled).shape == (2, 7)


# The methods of the papers that this library is about; test_methods_on_networks.py has all methods on some networks.
# Options that keep the branches small, and networks whose stages do not fit the method's mathematics.
TEACHING = {
    "teskd": {"student_width": 16},
    "dtskd": {},
    "loth": {"block": "gbn"},
}
ONE_RESOLUTION = {"vit_tiny_patch16_224", "mixer_s32_224"}
UNFIT = {
    "teskd": {*ONE_RESOLUTION, "shufflenetv2_cifar"},
    "dtskd": set(),
    "loth": set(),
}


# Of timm's families `make test` trains a small one, and a vision transformer, which TESKD refuses.
FAST = ("mobilenetv2_050", "vit_tiny_patch16_224")
TRAINED = [*(pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in FAMILIES), *OURS]


@pytest.mark.parametrize("method_name", TEACHING)
@pytest.mark.parametrize("name", TRAINED)
def test_the_papers_methods_train_on_it_or_say_why_not(name, method_name):
    torch.manual_seed(0)
    staged = built(name)
    data = selfkd.DatasetInfo(4, 7)
    if name in UNFIT[method_name]:
        with pytest.raises(BackboneError, match=r"needs stages that halve; .* Methods that work on it: plain, .*dtskd"):
            selfkd.create_method(method_name, staged, data, **TEACHING[method_name])
        return
    method = selfkd.create_method(method_name, staged, data, **TEACHING[method_name])
    images, progress = torch.randn(2, *staged.input_size), selfkd.Progress(0, 2)
    method.begin_epoch(progress)
    output = method(selfkd.Batch(images, torch.tensor([1, 3]), torch.tensor([0, 2])), progress)
    output.loss.backward()
    assert torch.isfinite(output.loss)
    first = next(staged.network.parameters())
    assert first.grad is not None
    assert torch.isfinite(first.grad).all()


# One small network of each origin with the options that make it small, and the size of its images.
STARTED = {
    "resnet18_cifar": ({"width": 8}, 32),
    "vgg11_cifar": ({"width": 8}, 32),
    "shufflenetv2_cifar": ({"width": 8}, 32),
    "mobilenetv2_cifar": ({"width": 8}, 32),
    "resnet10t": ({}, 64),
    "mobilenetv3_small_050": ({}, 64),
    "convnext_atto": ({}, 64),
    "test_vit": ({}, 160),
    "torchvision/resnet18": ({}, 64),
    "torchvision/mobilenet_v3_small": ({}, 64),
    "torchvision/squeezenet1_1": ({}, 64),
}


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        *((name, "safetensors") for name in STARTED),
        ("resnet18_cifar", "pth"),
        *(pytest.param(name, "pth", marks=pytest.mark.slow) for name in STARTED if name != "resnet18_cifar"),
    ],
)
def test_it_starts_from_a_file_of_weights_with_another_classifier(name, ending, tmp_path):
    options, size = STARTED[name]
    torch.manual_seed(0)
    before = selfkd.create_backbone(name, 5, input_size=size, **options).network
    file = tmp_path / f"weights.{ending}"
    if ending == "pth":
        torch.save({"model": {f"module.{key}": value for key, value in before.state_dict().items()}}, file)
    else:
        save_network(before, file, {})
    staged = selfkd.create_backbone(name, 7, input_size=size, **options)
    fresh = {key: value.clone() for key, value in staged.network.state_dict().items()}
    load_starting_weights(staged, file, "backbone.weights", f"backbone={name}")
    classifier = parameter_parts(staged).classifier
    assert classifier
    for key, value in staged.network.state_dict().items():
        assert torch.equal(value, fresh[key] if key in classifier else before.state_dict()[key]), key
    same = selfkd.create_backbone(name, 5, input_size=size, **options)
    load_starting_weights(same, file, "backbone.weights", f"backbone={name}")
    images = torch.randn(2, *same.input_size)
    with torch.no_grad():
        assert torch.equal(same.network.eval()(images), before.eval()(images))
