import pytest
import torch

import selfkd
from selfkd.branches.stage_copies import last_stage_copy, stage_copies
from selfkd.errors import BackboneError

NETWORKS = ["resnet18_cifar", "vgg16_cifar", "mobilenetv2_cifar", "shufflenetv2_cifar_loth"]


def built(name):
    torch.manual_seed(0)
    return selfkd.create_backbone(name, 7, width=8, input_size=32)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_copy_of_the_last_stage_gives_maps_and_logits_like_the_networks(name):
    backbone = built(name).eval()
    features = backbone(torch.randn(2, 3, 32, 32))
    copy = last_stage_copy(backbone).eval()
    feature, logits = copy(features.stages[2])
    assert feature.shape == features.final.shape
    assert logits.shape == (2, 7)
    assert not torch.equal(feature, features.final), "it has weights of its own"
    assert [each.shape for each in copy.classifier.parameters()] == [
        each.shape for each in backbone.network.fc.parameters()
    ]


@pytest.mark.parametrize("name", NETWORKS)
def test_copies_of_several_stages_take_depth_and_width_of_the_last(name):
    backbone = built(name).eval()
    stages = backbone(torch.randn(2, 3, 32, 32)).stages
    branch = stage_copies(backbone, first=2, last_depth=1, last_width_factor=2).eval()
    feature, logits = branch(stages[1])
    assert feature.shape == (2, 2 * backbone.num_features, *backbone.final_shape[1:])
    assert logits.shape == (2, 7)
    assert branch.classifier.in_features == 2 * backbone.num_features
    assert len(branch.chain[0]) == backbone.stage_depth(2)
    assert len(branch.chain[1]) == 1


def test_the_linear_classifier_starts_by_the_rule_of_the_networks_family():
    branch = stage_copies(built("vgg16_cifar"), first=3, last_width_factor=2)
    weight, bias = branch.classifier.weight, branch.classifier.bias
    assert weight.std().item() == pytest.approx(0.01, rel=0.2)  # 896 values; PyTorch's rule gives 0.05
    assert not bias.any()


def test_building_one_changes_no_running_statistics():
    branch = stage_copies(built("resnet18_cifar"), first=3)
    assert all(buffer.sum() == 0 for name, buffer in branch.named_buffers() if name.endswith("running_mean"))
    assert branch.training


def test_networks_without_a_builder_are_refused():
    backbone = selfkd.create_backbone("resnet10t", 7, input_size=64)
    with pytest.raises(BackboneError, match=r"ResNet has no new_stage\(\).*resnet18_cifar"):
        last_stage_copy(backbone)
