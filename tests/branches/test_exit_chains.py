import pytest
import torch
from torch import nn

from selfkd.branches.exit_chains import BLOCKS, DeployedExit, Exit, ExitChains
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


def test_an_exit_classifies_the_average_of_its_feature():
    module = Exit(4, (6,), (2,), 5, "bn").eval()
    feature, logits = module(torch.randn(2, 4, 8, 8))
    averages = [[feature[sample, channel].mean().item() for channel in range(6)] for sample in range(2)]
    expected = torch.tensor(averages) @ module.classifier.weight.T + module.classifier.bias
    assert torch.allclose(logits, expected, atol=1e-6)


def test_an_unknown_block_is_refused():
    with pytest.raises(OptionError, match="block='bottle'.*bn, dsc, gbn"):
        ExitChains((4,), (6,), (2,), 5, "bottle")


def test_a_deployed_exit_learns_with_the_original_but_has_a_mode_of_its_own():
    own = Exit(4, (6,), (2,), 5, "bn")
    deployed = DeployedExit(nn.Identity(), own).eval()
    assert own.training
    assert all(part.training for part in own.modules())
    images = torch.randn(8, 4, 8, 8)
    before = deployed(images)
    own(images)  # moves the running statistics
    with torch.no_grad():
        own.classifier.bias.add_(1)
    assert not torch.allclose(deployed(images), before)
    assert torch.equal(deployed(images), own.eval()(images).logits)
    assert parameters_of(deployed) == parameters_of(own)
