import math

import pytest
import torch

from selfkd.branches.exit_chains import BLOCKS, bottleneck_step, exit_chains, narrow_step

STAGES = ((4, 15, 16), (6, 8, 8), (8, 4, 4), (9, 4, 4))
FINAL = (10, 2, 2)


class Shapes:
    """What `exit_chains` reads of a network."""

    stage_shapes = STAGES
    final_shape = FINAL


def parameters_of(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("block", "parameters"),
    [  # from 5 to 7 channels: convolutions without bias, two numbers per normalised channel
        ("bn", 5 * 7 + 7 * 7 * 9 + 7 * 7 + 3 * 14),
        ("gbn", 5 * 7 + 7 * 9 + 7 * 7 + 3 * 14),
        ("dsc", 5 * 9 + 5 * 7 + 10 + 14),
    ],
)
@pytest.mark.parametrize("stride", [1, 2])
def test_blocks(block, parameters, stride):
    module = BLOCKS[block](5, 7, stride)
    assert parameters_of(module) == parameters
    out = module(torch.randn(2, 5, 9, 6))
    assert out.shape == ((2, 7, 9, 6) if stride == 1 else (2, 7, 5, 3))
    assert out.min() == 0, "a block ends with ReLU"


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("inner_channels", [None, (5, 7)])
def test_all_chains_end_at_the_last_map(block, inner_channels):
    chains = list(exit_chains(Shapes, BLOCKS[block], inner_channels))
    assert [len(chain) for chain in chains] == [3, 2, 1]
    for chain, shape in zip(chains, STAGES, strict=False):
        assert chain(torch.randn(2, *shape)).shape == (2, *FINAL)
    first, second = inner_channels or (6, 8)
    assert [chains[0][:i](torch.randn(2, *STAGES[0])).shape[1] for i in (1, 2)] == [first, second]
    assert chains[1][:1](torch.randn(2, *STAGES[1])).shape[1] == second


def test_a_block_keeps_the_size_where_the_next_map_is_equally_large():
    class Equal(Shapes):
        final_shape = (10, 4, 4)

    chains = list(exit_chains(Equal, BLOCKS["bn"]))
    assert [chain(torch.randn(2, *shape)).shape[2:] for chain, shape in zip(chains, STAGES, strict=False)] == [
        (4, 4)
    ] * 3
    assert [module.stride for module in chains[2].modules() if isinstance(module, torch.nn.Conv2d)] == [(1, 1)] * 3


@pytest.mark.parametrize(("stage", "ratio"), [((4, 16, 8), (4, 2)), ((4, 15, 9), (3, 2)), ((4, 4, 4), (1, 1))])
def test_a_narrow_step_reduces_with_one_convolution_as_large_as_its_stride(stage, ratio):
    module = narrow_step(stage, (10, 4, 4)).eval()
    leaves = [type(each).__name__ for each in module.modules() if not list(each.children())]
    assert leaves == 3 * ["Conv2d", "BatchNorm2d", "ReLU"]
    first, middle, last = (module[i][0] for i in range(3))
    assert (middle.kernel_size, middle.stride, middle.padding) == (ratio, ratio, (0, 0))
    assert [conv.out_channels for conv in (first, middle, last)] == [2, 2, 10]
    assert parameters_of(module) == (4 * 2 + 2 + 4) + (2 * 2 * ratio[0] * ratio[1] + 2 + 4) + (2 * 10 + 10 + 20)
    result = module(torch.randn(2, *stage))
    assert result.shape[:2] == (2, 10)
    assert min(result.shape[2:]) >= 4
    assert result.min() == 0


@pytest.mark.parametrize("halvings", [0, 1, 2, 3])
@pytest.mark.parametrize("size", [(16, 8), (15, 9), (13, 14), (3, 1)])
def test_a_bottleneck_step_ends_at_the_last_maps_size(size, halvings):
    last = tuple(math.ceil(side / 2**halvings) for side in size)
    assert bottleneck_step((4, *size), (10, *last))(torch.randn(2, 4, *size)).shape == (2, 10, *last)
