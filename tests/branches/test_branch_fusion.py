import torch

from selfkd.branches.branch_fusion import BranchFusion
from selfkd.branches.exits import ExitOutput

B, C, K = 3, 4, 5


def test_maps_are_joined_and_normalised_without_a_relu_and_weigh_the_logits():
    torch.manual_seed(0)
    fusion = BranchFusion(C).double()
    first, second = (ExitOutput(torch.randn(B, C, 2, 2).double(), torch.randn(B, K).double()) for _ in range(2))
    fused = fusion(first, second)

    convolution, norm = fusion.fuse
    joined = torch.zeros(B, C, 2, 2).double()
    for out in range(C):
        joined[:, out] = convolution.bias[out].detach()
        for channel in range(C):
            joined[:, out] += convolution.weight[out, channel, 0, 0].detach() * first.feature[:, channel]
            joined[:, out] += convolution.weight[out, C + channel, 0, 0].detach() * second.feature[:, channel]
    centred = joined - joined.mean(dim=(0, 2, 3), keepdim=True)
    expected = centred / (centred.square().mean(dim=(0, 2, 3), keepdim=True) + norm.eps).sqrt()
    torch.testing.assert_close(fused.feature, expected)
    assert (fused.feature < 0).any()
    torch.testing.assert_close(fused.logits, fusion.gate(fused.feature, [first.logits, second.logits]))


def test_a_map_of_one_pixel_is_fused():
    fusion = BranchFusion(C)
    maps = [ExitOutput(torch.randn(B, C, 1, 1), torch.randn(B, K)) for _ in range(2)]
    assert fusion(*maps).feature.shape == (B, C, 1, 1)
