import math

import pytest
import torch
from torch import nn

from selfkd.branches.exit_fusion import (
    FUSIONS,
    ExitFusion,
    GlobalAttention,
    GlobalLocalAttention,
    attention_kernel,
)
from selfkd.errors import BatchError, OptionError

CLASSES = 100


def parameters_of(module):
    return sum(parameter.numel() for parameter in module.parameters())


def maps(channels=8, size=(4, 4)):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(3, channels, *size, generator=generator) for _ in range(4)]


# specification, section 3.2
@pytest.mark.parametrize(
    ("fusion", "channels", "side", "parameters"),
    [
        ("deca", 512, 4, 1_102_700),
        ("deca", 512, 2, 1_101_020),
        ("deca", 1024, 4, 4_300_652),
        ("deca", 1280, 4, 6_686_060),
        ("deca", 960, 4, 3_786_220),
        ("sum", 1024, 4, 1_153_124),
        ("concat", 1024, 4, 4_298_852),
        ("pooled_concat", 1024, 4, 4_298_852),
        ("depthwise_concat", 1024, 4, 4_343_908),
        ("sample_attention", 1024, 4, 1_219_112),
        # derived: the second generation without its idle gamma; the first is "depthwise_concat" and two kernels of 7
        ("deca_g2", 1024, 4, 4_300_652 - 1),
        ("deca_g1", 1024, 4, 4_343_908 + 14),
    ],
)
def test_parameters_are_the_published(fusion, channels, side, parameters):
    with torch.device("meta"):
        assert parameters_of(ExitFusion(channels, (side, side), CLASSES, fusion)) == parameters


@pytest.mark.parametrize(("channels", "kernel"), [(8, 3), (512, 5), (2048, 7), (3840, 7), (4096, 7), (5120, 7)])
def test_kernel_rule(channels, kernel):
    assert attention_kernel(channels) == kernel


# gamma: y[0, :, 0, 0], y[1, 3] row-major, sum (specification, section 5.6)
ATTENTION = {
    0.0: (
        [0, 0.157071, 0.335791, 0.420554, 0.428259, 0.349999, 0.0805068, -0.156573],
        [0.402691, 0.412812, 0.409971, 0.390880],
        9.06647,
    ),
    0.3: (
        [0, 0.169650, 0.367219, 0.455249, 0.451238, 0.353617, 0.0789718, -0.153093],
        [0.413195, 0.416272, 0.407734, 0.384958],
        9.93860,
    ),
}


def golden_attention(learned_balance):
    index = torch.arange(16).double().view(2, 2, 2, 2)
    x = torch.cat([torch.sin(0.1 * index + k) for k in range(4)], dim=1)
    attention = GlobalLocalAttention(8, (2, 2), learned_balance).double()
    attention.conv_global.weight.data.copy_(torch.tensor([[[0.2, -0.1, 0.3]]]))
    attention.conv_local.weight.data.copy_(torch.cos(0.5 * torch.arange(48).double()).view(4, 4, 3))
    return attention, x


@pytest.mark.parametrize("gamma", ATTENTION)
def test_golden_attention(gamma):
    first, last, total = ATTENTION[gamma]
    attention, x = golden_attention(learned_balance=True)
    assert attention.gamma.item() == 0, "both kinds alike at the start"
    attention.gamma.data.fill_(gamma)
    y = attention(x)
    assert y[0, :, 0, 0].tolist() == pytest.approx(first, rel=3e-6)
    assert y[1, 3].flatten().tolist() == pytest.approx(last, rel=3e-6)
    assert y.sum().item() == pytest.approx(total, rel=3e-6)
    assert torch.equal(attention(x.to(memory_format=torch.channels_last)), y)


def test_the_second_generation_is_the_last_at_its_start():
    (last, x), (second, _) = golden_attention(True), golden_attention(False)
    assert torch.allclose(second(x), last(x), rtol=1e-12)


def test_global_attention_by_hand():
    attention = GlobalAttention(8).double()
    x = torch.randn(2, 8, 3, 5).double()
    y = attention(x)
    for sample in range(2):
        means = [0.0, *x[sample].mean(dim=(1, 2)).tolist(), 0.0]
        for channel in range(8):
            logit = sum(
                conv.weight[0, 0, tap].item() * means[channel + tap]
                for conv in (attention.conv_first, attention.conv_second)
                for tap in range(3)
            )
            expected = x[sample, channel] / (1 + math.exp(-logit))
            assert torch.allclose(y[sample, channel], expected)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_part_learns_and_every_exit_is_used(fusion):
    torch.manual_seed(0)
    module = ExitFusion(8, (4, 4), 5, fusion)
    inputs = [each.requires_grad_() for each in maps()]
    logits = module(inputs)
    assert logits.shape == (3, 5)
    logits.pow(2).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in module.parameters())
    assert all(each.grad.abs().sum() > 0 for each in inputs)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_single_sample_trains_unless_vectors_are_normalised(fusion):
    module = ExitFusion(8, (4, 4), 5, fusion)
    one = [each[:1] for each in maps()]
    if fusion in ("pooled_concat", "sample_attention"):
        with pytest.raises(ValueError, match="more than 1 value"):
            module(one)
    else:
        assert module(one).shape == (1, 5)


def test_pooling_first_equals_pooling_the_concatenation():
    torch.manual_seed(0)
    module = ExitFusion(8, (4, 4), 5, "pooled_concat").eval()
    pooled = [each.mean(dim=(2, 3), keepdim=True) for each in maps()]
    plain = ExitFusion(8, (4, 4), 5, "concat").eval()
    plain.load_state_dict(module.state_dict())
    assert torch.allclose(module(maps()), plain(pooled), atol=1e-6)


def test_sample_attention_weighs_each_sample_for_itself():
    torch.manual_seed(0)
    module = ExitFusion(32, (4, 4), 5, "sample_attention").eval()
    inputs = maps(32)
    whole = module(inputs)
    alone = module([each[1:2] for each in inputs])
    assert torch.allclose(whole[1:2], alone, atol=1e-6)
    score = module.fuse[0].score[-1]
    nn.init.zeros_(score.weight)
    with torch.no_grad():
        score.bias.copy_(torch.tensor([100.0, 0, 0, 0]))  # exit 1 alone
        expected = module.classifier(module.fuse[1](inputs[0]).mean(dim=(2, 3)))
        assert torch.allclose(module(inputs), expected, atol=1e-6)


def test_convolutions_start_as_the_release_does():
    torch.manual_seed(0)
    module = ExitFusion(256, (2, 2), 5, "depthwise_concat")
    depthwise, reduce = (each for each in module.modules() if isinstance(each, nn.Conv2d))
    assert depthwise.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 1024)), rel=0.05)
    assert reduce.weight.std().item() == pytest.approx(math.sqrt(2 / 256), rel=0.05)


def test_sample_attention_starts_as_pytorchs_layers_do_like_the_releases():
    torch.manual_seed(0)
    channels = 1024  # of MobileNetV1, on which Table 5 compares the fusions
    module = ExitFusion(channels, (4, 4), 5, "sample_attention")
    bound = 1 / math.sqrt(channels)  # uniform; no other fusion's convolution is bounded
    convolution = next(each for each in module.modules() if isinstance(each, nn.Conv2d))
    for layer in (convolution, module.fuse[0].score[0], module.classifier):
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02), "0.018, not 0.044"
        assert 0.99 * bound < layer.weight.abs().max().item() <= bound


def test_maps_of_another_size_are_refused_where_positions_are_channels():
    module = ExitFusion(8, (4, 4), 5)
    with pytest.raises(BatchError, match="built for maps of 4x4, got 2x8.*input_size"):
        module(maps(size=(2, 8)))
    assert ExitFusion(8, (4, 4), 5, "concat")(maps(size=(2, 8))).shape == (3, 5)


def test_an_unknown_fusion_is_refused():
    with pytest.raises(OptionError, match="fusion='eml'.*deca, deca_g1"):
        ExitFusion(8, (4, 4), 5, "eml")
