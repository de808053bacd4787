import torch
from torch.nn.functional import interpolate

from selfkd.branches.attention_mask import AttentionMask, normalised_separable_pair


def test_a_map_is_scaled_by_the_sigmoid_of_its_upsampled_attention():
    mask = AttentionMask(normalised_separable_pair(5)).eval()
    for height, width in ((8, 6), (7, 5), (1, 1)):
        stage_map = torch.randn(2, 5, height, width)
        halved = mask.halve(stage_map)
        assert halved.shape == (2, 5, (height + 1) // 2, (width + 1) // 2)
        weights = interpolate(halved, size=(height, width), mode="bilinear").sigmoid()
        assert torch.allclose(mask(stage_map), stage_map * weights)


def test_the_layers_of_the_release_halve_the_map():
    layers = normalised_separable_pair(5)
    names = [type(each).__name__ for each in layers.modules() if not list(each.children())]
    half = ["Conv2d", "Conv2d", "BatchNorm2d", "ReLU"]
    assert names == [*half, *half, "BatchNorm2d", "ReLU"]
    assert sum(each.numel() for each in layers.parameters()) == 2 * (9 * 5 + 5 * 5 + 2 * 5) + 2 * 5
