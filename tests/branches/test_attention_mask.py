import torch
from torch.nn.functional import interpolate

from selfkd.branches.attention_mask import AttentionMask
from selfkd.branches.separable import normalised_separable_pair


def test_a_map_is_scaled_by_the_sigmoid_of_its_upsampled_attention():
    mask = AttentionMask(normalised_separable_pair(5)).eval()
    for height, width in ((8, 6), (7, 5), (1, 1)):
        stage_map = torch.randn(2, 5, height, width)
        halved = mask.halve(stage_map)
        assert halved.shape == (2, 5, (height + 1) // 2, (width + 1) // 2)
        weights = interpolate(halved, size=(height, width), mode="bilinear").sigmoid()
        assert torch.allclose(mask(stage_map), stage_map * weights)
