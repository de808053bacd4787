import pytest
import torch

from selfkd.branches.separable import normalised_separable_pair, separable_pair


def parameters_of(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("stride", [1, 2])
def test_a_separable_pair_changes_size_in_its_first_half_and_channels_in_its_second(stride):
    module = separable_pair(5, 7, stride)
    assert parameters_of(module) == (5 * 9 + 5 * 5 + 10) + (5 * 9 + 5 * 7 + 14)
    size = (9, 6) if stride == 1 else (5, 3)
    images = torch.randn(2, 5, 9, 6)
    assert module[0](images).shape == (2, 5, *size)
    assert module(images).shape == (2, 7, *size)
    assert module(images).min() == 0


def test_the_layers_of_the_release_halve_the_map():
    layers = normalised_separable_pair(5)
    names = [type(each).__name__ for each in layers.modules() if not list(each.children())]
    half = ["Conv2d", "Conv2d", "BatchNorm2d", "ReLU"]
    assert names == [*half, *half, "BatchNorm2d", "ReLU"]
    assert sum(each.numel() for each in layers.parameters()) == 2 * (9 * 5 + 5 * 5 + 2 * 5) + 2 * 5
