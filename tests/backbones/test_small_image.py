import pickle

import pytest
import torch

import selfkd
from selfkd.backbones import network_factory
from selfkd.backbones.small_image import nearest_multiple
from selfkd.errors import OptionError


def test_width_scales_every_map():
    plain = selfkd.create_backbone("resnet18_cifar", 10, width=16)
    assert [shape[0] for shape in plain.stage_shapes] == [16, 32, 64, 128]
    assert selfkd.create_backbone("resnet50_cifar", 10, width=8).stage_shapes[0] == (32, 32, 32)
    mobile = selfkd.create_backbone("mobilenetv2_cifar", 10, width=3)
    assert [shape[0] for shape in mobile.stage_shapes] == [2, 3, 9, 30]
    assert mobile.num_features == 120
    shuffle = selfkd.create_backbone("shufflenetv2_cifar", 10, width=5)
    assert [shape[0] for shape in shuffle.stage_shapes] == [24, 48, 96, 213]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet18_cifar", {"width": 0}, "width=0 is not allowed; width must be a whole number >= 1"),
        ("resnet18_cifar", {"width": 8.5}, "width=8.5"),
        ("vgg16_cifar", {"in_channels": 0}, "in_channels=0"),
        ("mobilenetv1_cifar", {"width": -1}, "width=-1"),
        ("resnet18_cifar", {"initialization": "loth"}, "initialization='loth'.*one of fan_out, pytorch"),
        ("resnext18_cifar_grouped", {"width": 48}, "width=48 is not allowed; width must be a multiple of 32"),
        ("resnext152_cifar_grouped", {"width": 40}, "a multiple of 16"),
        ("shufflenetv1_cifar", {"width": 20}, "a multiple of 6"),
    ],
)
def test_sizes_that_cannot_be_are_refused(name, options, message):
    with pytest.raises(OptionError, match=message):
        selfkd.create_backbone(name, 10, **options)


def test_one_class_is_too_few():
    with pytest.raises(OptionError, match="num_classes=1"):
        selfkd.create_backbone("vgg11_cifar", 1)


def test_other_channels_of_images():
    for name in ("resnet18_cifar", "vgg11_cifar_loth", "shufflenetv1_cifar"):
        network = network_factory(name)(10, in_channels=1)
        assert network(torch.randn(2, 1, 32, 32)).shape == (2, 10)


def test_stages_of_another_depth_begin_alike_and_end_alike():
    staged = selfkd.create_backbone("mobilenetv2_cifar", 10)
    images = torch.randn(2, 24, 32, 32)

    def channels(depth):
        return [block.conv_pwl.out_channels for block in staged.new_stage(2, depth=depth)]

    assert channels(None) == [64, 64, 64, 64, 96, 96, 96]
    assert channels(1) == [96]
    assert channels(3) == [64, 64, 96]
    assert channels(9) == [64, 64, 64, 64, 96, 96, 96, 96, 96]
    assert staged.new_stage(1, depth=1)(images).shape == (2, 32, 16, 16)


def test_pools_stay_where_they_are_in_stages_of_another_depth():
    after = selfkd.create_backbone("vgg16_cifar", 10, width=8).new_stage(3, depth=4)
    assert [type(block[-1]).__name__ for block in after] == ["ReLU", "ReLU", "ReLU", "MaxPool2d"]
    before = selfkd.create_backbone("vgg16_cifar_loth", 10, width=8).new_stage(3, depth=1)
    assert [type(layer).__name__ for layer in before[0]] == ["MaxPool2d", "Conv2dNormActivation"]


def test_a_narrow_strided_unit_of_shufflenetv1_has_no_room():
    staged = selfkd.create_backbone("shufflenetv1_cifar", 10, width=6)
    with pytest.raises(OptionError, match="out_channels=60 .* above 60: a strided unit of ShuffleNetV1"):
        staged.new_stage(2, width_factor=0.5)


def test_intermediates_follow_timms_protocol():
    network = network_factory("mobilenetv2_cifar")(10, width=8).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        final, maps = network.forward_intermediates(images, norm=True, stop_early=False)
        assert torch.equal(network(images), network.forward_head(final))
        chosen = network.forward_intermediates(images, [-3, 0], intermediates_only=True)
    assert len(maps) == 4
    assert torch.equal(chosen[0], maps[1])
    assert torch.equal(chosen[1], maps[0])
    assert network.forward_head(final, pre_logits=True).shape == (2, network.num_features)
    reductions = [(entry["num_chs"], 32 // entry["reduction"]) for entry in network.feature_info]
    assert reductions == [tuple(stage_map.shape[1:3]) for stage_map in maps]
    with pytest.raises(OptionError, match="output_fmt='NLC'"):
        network.forward_intermediates(images, output_fmt="NLC")
    with pytest.raises(IndexError):
        network.forward_intermediates(images, [4])


def test_pruning_may_keep_the_head():
    network = network_factory("mobilenetv2_cifar")(10, width=8).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        logits = network(images)
        assert network.prune_intermediate_layers([-1], prune_head=False) == [3]
        assert torch.equal(network(images), logits)
        assert network.prune_intermediate_layers([1]) == [1]
    assert not any(key.startswith(("layer3", "layer4", "final", "fc")) for key in network.state_dict())


@pytest.mark.parametrize("name", ["resnext18_cifar_grouped", "vgg11_cifar", "shufflenetv2_cifar_loth"])
def test_networks_can_be_pickled(name):
    network = network_factory(name)(10)
    copy = pickle.loads(pickle.dumps(network))  # noqa: S301  # our own bytes
    assert list(copy.state_dict()) == list(network.state_dict())
    assert len(list(copy.new_stage(1).parameters())) == len(list(network.layer2.parameters()))


def test_the_nearest_multiple_is_never_nothing():
    assert nearest_multiple(0.3) == 1
    assert nearest_multiple(58, 12) == 60
    assert nearest_multiple(1, 12) == 12


@pytest.mark.parametrize(
    ("name", "first_weights"),
    [
        (
            "mobilenetv2_cifar",
            {
                "stem.0.0.weight": [0.025437, 0.020436],
                "layer4.3.conv_pwl.weight": [0.070962, 0.103583],
                "final.1.0.weight": [0.033946, -0.029243],
                "fc.weight": [0.005779, -0.002328],
            },
        ),
        (
            "shufflenetv2_cifar_loth",
            {
                "layer1.0.0.weight": [-0.044122, 0.161991],
                "layer4.3.residual.2.0.weight": [-0.020221, -0.032374],
                "final.0.weight": [-0.018667, 0.039121],
                "fc.weight": [0.003353, -0.006632],
            },
        ),
    ],
)
def test_a_seed_gives_the_weights_with_which_finished_runs_began(name, first_weights):
    torch.manual_seed(0)
    parameters = dict(selfkd.create_backbone(name, 10).network.named_parameters())
    for parameter, values in first_weights.items():
        assert parameters[parameter].detach().flatten()[:2].tolist() == pytest.approx(values, abs=2e-6), parameter
