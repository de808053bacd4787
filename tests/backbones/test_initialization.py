"""How each family starts (specification, the lines on initialisation of 1.2, 2.2 and 3.2), by its weights' spread."""

import math

import pytest
import torch
from torch import nn

import selfkd

FAN_OUT = "fan_out"
PYTORCH = "pytorch"
# Options; how convolutions are drawn, whether their biases are 0, weight of batch normalisation, deviation of linear
# layers (None for PyTorch's own).
FAMILIES = {
    "resnet18_cifar": ({}, PYTORCH, False, 1, None),
    "resnet18_cifar in LOTH": ({"initialization": "fan_out"}, FAN_OUT, False, 1, None),
    "seresnet18_cifar": ({}, PYTORCH, False, 1, None),
    "resnext18_cifar": ({}, FAN_OUT, False, 1, None),
    "resnext18_cifar_grouped": ({"width": 32}, FAN_OUT, False, 1, None),
    "vgg11_cifar": ({}, FAN_OUT, True, 1, 0.01),
    "vgg11_cifar_loth": ({}, FAN_OUT, True, 0.5, 0.01),
    "mobilenetv1_cifar": ({}, PYTORCH, False, 1, None),
    "mobilenetv2_cifar": ({}, FAN_OUT, False, 1, 0.01),
    "shufflenetv1_cifar": ({}, FAN_OUT, False, 1, None),
    "shufflenetv2_cifar": ({}, PYTORCH, False, 1, None),
    "shufflenetv2_cifar_loth": ({}, FAN_OUT, False, 1, None),
}


def check(module, convolutions, zero_bias, norm_weight, linear_std):
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            kernel = math.prod(layer.kernel_size)
            fan_in = kernel * layer.in_channels // layer.groups
            expected = math.sqrt(2 / (kernel * layer.out_channels)) if convolutions == FAN_OUT else (3 * fan_in) ** -0.5
            if layer.weight.numel() > 1000:
                assert layer.weight.std().item() == pytest.approx(expected, rel=0.1)
            if convolutions == PYTORCH:
                assert layer.weight.abs().max() <= fan_in**-0.5
            if layer.bias is not None:
                assert (layer.bias == 0).all() == zero_bias
        elif isinstance(layer, nn.BatchNorm2d):
            assert (layer.weight == norm_weight).all()
            assert (layer.bias == 0).all()
        elif isinstance(layer, nn.Linear):
            bound = layer.in_features**-0.5
            assert layer.weight.std().item() == pytest.approx(linear_std or bound / math.sqrt(3), rel=0.1)
            assert (layer.bias == 0).all() == (linear_std is not None)


@pytest.mark.parametrize("case", FAMILIES)
def test_networks_and_what_is_grown_from_them_start_as_in_their_papers(case):
    options, *expected = FAMILIES[case]
    torch.manual_seed(0)
    staged = selfkd.create_backbone(case.split()[0], 100, **options)
    check(staged.network, *expected)
    check(staged.new_stage(2), *expected)
    check(staged.new_classifier(), *expected)


@pytest.mark.parametrize("case", FAMILIES)
def test_branches_start_like_the_network(case):
    options, *expected = FAMILIES[case]
    torch.manual_seed(0)
    branch = nn.Sequential(nn.Conv2d(64, 96, 3), nn.BatchNorm2d(96), nn.Linear(96, 100))
    before = [parameter.clone() for parameter in branch.parameters()]
    selfkd.create_backbone(case.split()[0], 10, **options).initialize_branches(branch)
    if expected[0] == PYTORCH:
        assert all(torch.equal(*pair) for pair in zip(before, branch.parameters(), strict=True))
    else:
        check(branch, *expected)
