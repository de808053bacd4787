import pytest
import timm
import torch
import torchvision
from torch import nn

import selfkd
from selfkd.errors import BackboneError, OptionError, UnknownNameError

LAYERS = ["layer1", "layer2", "layer3", "layer4"]


def test_the_network_is_the_very_network_with_its_keys():
    network = timm.create_model("resnet18", num_classes=10)
    before = list(network.state_dict())
    staged = selfkd.stage(network, input_size=64)
    assert staged.network is network
    assert list(network.state_dict()) == before
    assert not any(module._forward_hooks for module in network.modules())


def test_wrapping_changes_neither_mode_nor_statistics():
    network = torchvision.models.resnet18(num_classes=10)
    network.layer2.eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    selfkd.stage(network, LAYERS, input_size=64)
    assert network.training
    assert not network.layer2.training
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_any_network_by_the_names_of_its_stages():
    network = torchvision.models.resnet18(num_classes=10).eval()
    staged = selfkd.stage(network, LAYERS, input_size=64)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        features = staged(images)
        assert torch.equal(features.logits, network(images))
    assert staged.stage_shapes == ((64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2))
    assert features.pooled.shape == (2, 512)
    assert not any(module._forward_hooks for module in network.modules())


def test_what_the_classifier_pools_need_not_be_the_last_stage():
    network = torchvision.models.mobilenet_v2(num_classes=10)
    names = ["features.3", "features.6", "features.13", "features.17"]
    staged = selfkd.stage(network, names, input_size=64, final="features.18")
    assert staged.stage_shapes[-1] == (320, 2, 2)
    assert staged.final_shape == (1280, 2, 2)
    assert staged.num_features == 1280


def test_gradients_flow_through_stages():
    staged = selfkd.stage(torchvision.models.resnet18(num_classes=10), LAYERS, input_size=64)
    staged(torch.randn(2, 3, 64, 64)).stages[0].sum().backward()
    assert staged.network.conv1.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stages": ["layer1", "layer2", "layer3"], "input_size": 64}, "names 3 modules; 4 are needed"),
        ({"stages": ["layer1", "layer2", "layer3", "layer5"], "input_size": 64}, "no submodule 'layer5'.*layer4"),
        ({"stages": [*LAYERS[:3], "fc"], "input_size": 64}, r"'fc' must give a map.*\(1, 10\)"),
        ({"input_size": 64}, "does not know its stages; name four submodules"),
        ({"stages": LAYERS}, "does not say its input size"),
        ({"stages": LAYERS, "input_size": (1, 64, 64)}, r"cannot be run on one image of shape \(1, 64, 64\)"),
        ({"final": "layer4", "input_size": 64}, "needs stages="),
        ({"stages": LAYERS[::-1], "input_size": 64}, "must be listed from shallow to deep"),
        ({"stages": ["layer1"] * 4, "input_size": 64}, "list of different names"),
        ({"stages": "layer1", "input_size": 64}, "list of different names"),
    ],
)
def test_networks_that_cannot_be_staged_say_why(arguments, message):
    with pytest.raises(BackboneError, match=message):
        selfkd.stage(torchvision.models.resnet18(num_classes=10), **arguments)


def test_channels_last_maps_are_refused():
    network = torchvision.models.swin_t(num_classes=10)
    with pytest.raises(BackboneError, match="look channels-last"):
        selfkd.stage(network, ["features.1", "features.3", "features.5", "features.7"], input_size=64)


def test_somebodys_own_factory_may_stage_its_network(monkeypatch, tmp_path):
    (tmp_path / "own_networks.py").write_text(
        "import selfkd, torchvision\n"
        "def small(num_classes):\n"
        "    network = torchvision.models.resnet18(num_classes=num_classes)\n"
        "    return selfkd.stage(network, ['layer1', 'layer2', 'layer3', 'layer4'], input_size=64)\n"
        "def nothing(num_classes):\n"
        "    return num_classes\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert selfkd.create_backbone("own_networks:small", 7).num_classes == 7
    with pytest.raises(BackboneError, match="must be a torch.nn.Module or a Staged; got int"):
        selfkd.create_backbone("own_networks:nothing", 7)


@pytest.mark.parametrize(
    "arguments", [{"index": 4}, {"index": -1}, {"index": 1, "depth": 0}, {"index": 1, "width_factor": 0}]
)
def test_stages_that_cannot_be_grown_are_refused(arguments):
    with pytest.raises(OptionError):
        selfkd.create_backbone("resnet18_cifar", 10, width=8).new_stage(**arguments)


def test_three_stages_are_too_few():
    with pytest.raises(BackboneError, match="has 3 stages"):
        selfkd.create_backbone("levit_128s", 10)


def test_a_network_that_does_not_return_logits_is_refused():
    network = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(5)))
    with pytest.raises(BackboneError, match=r"must return logits"):
        selfkd.stage(network, ["0", "1", "2", "3"], input_size=8)


def test_families_that_cannot_grow_stages_say_which_can():
    with pytest.raises(BackboneError, match="new_stage.*resnet18_cifar.*shufflenetv2_cifar_loth"):
        selfkd.create_backbone("resnet18", 10, input_size=64).new_stage(1)


def test_unknown_names_bring_the_nearest_of_ours_and_of_timm():
    with pytest.raises(UnknownNameError, match="resnet18_cifar"):
        selfkd.create_backbone("resnet18_cifa", 10)
    with pytest.raises(UnknownNameError, match="efficientnet_b0"):
        selfkd.create_backbone("eficientnet_b0", 10)


def test_options_that_do_not_exist_are_refused():
    with pytest.raises(selfkd.SelfKDError, match="widht"):
        selfkd.create_backbone("resnet18_cifar", 10, widht=16)
    with pytest.raises(selfkd.SelfKDError, match="drop_path"):
        selfkd.create_backbone("vgg11_bn", 10, drop_path_rate=0.1)


def test_a_network_of_an_older_timm_that_does_not_know_its_stages_says_so():
    class Old(nn.Module):
        __module__ = "timm.models.old"

    with pytest.raises(BackboneError, match=r"Old does not know its stages; install timm 1.0.31 or newer.* or name"):
        selfkd.stage(Old(), input_size=64)
