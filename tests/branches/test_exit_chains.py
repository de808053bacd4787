import pytest
import torch

from selfkd.branches.exit_chains import BLOCKS, ExitChains
from selfkd.errors import OptionError

STAGES = ((4, 15, 16), (6, 8, 8), (8, 4, 4))


def maps():
    return [torch.randn(2, *shape) for shape in STAGES]


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
def test_all_exits_end_at_the_same_map(block):
    chains = ExitChains([shape[0] for shape in STAGES], (6, 8, 10), (2, 2, 2), 5, block)
    outputs = chains(maps())
    assert [output.feature.shape for output in outputs] == [(2, 10, 2, 2)] * 3
    assert [output.logits.shape for output in outputs] == [(2, 5)] * 3
    assert [len(each.chain) for each in chains.exits] == [3, 2, 1]


def test_an_unknown_block_is_refused():
    with pytest.raises(OptionError, match="block='bottle'.*bn, dsc, gbn"):
        ExitChains((4,), (6,), (2,), 5, "bottle")
