"""What holds for every method whose exits learn beside the network."""

import pytest
import torch

import selfkd
from exit_outputs import HEADS, START
from selfkd.errors import BackboneError, BatchError

METHODS = {
    "byot": ("byot", {}),
    "byot in LOTH's form": ("byot", {"exit_form": "loth"}),
    "ecsd": ("ecsd", {}),
    "ecsd in LOTH's form": ("ecsd", {"exit_form": "loth", "target": "mean"}),
    "beed": ("beed", {}),
}


def built(kind, size=16):
    name, options = METHODS[kind]
    torch.manual_seed(0)
    backbone = selfkd.create_backbone("resnet18_cifar", 10, width=8, input_size=size)
    return selfkd.create_method(name, backbone, selfkd.DatasetInfo(6, 10), **options)


def random_batch(*size, samples=4):
    generator = torch.Generator().manual_seed(1)
    return selfkd.Batch(torch.randn(samples, *size, generator=generator), torch.arange(samples))


@pytest.mark.parametrize("kind", METHODS)
def test_every_part_learns(kind):
    method = built(kind)
    output = method(random_batch(3, 16, 16), START)
    output.loss.backward()
    assert tuple(output.logits) == ("main", "branch1", "branch2", "branch3", "ensemble")
    assert all(parameter.grad.abs().sum() > 0 for parameter in method.parameters() if parameter.ndim > 1)


@pytest.mark.parametrize("kind", METHODS)
def test_the_ensemble_is_the_plain_mean_of_the_exits_and_the_network(kind):
    logits = built(kind).eval().predict(random_batch(3, 16, 16).images)
    torch.testing.assert_close(logits["ensemble"], sum(logits[head] for head in HEADS) / 4)


@pytest.mark.parametrize("kind", METHODS)
def test_deployed_exits_give_the_logits_of_their_heads(kind):
    method = built(kind)
    images = random_batch(3, 16, 16).images
    method(random_batch(3, 16, 16), START)  # moves the running statistics
    expected = method.eval().predict(images)
    exits = method.exits()
    assert set(exits) == set(HEADS)
    assert exits["main"] is method.backbone.network
    for head, network in exits.items():
        torch.testing.assert_close(network.eval()(images), expected[head])


@pytest.mark.parametrize("size", [(3, 13, 18), (3, 17, 16), (3, 8, 8)])
@pytest.mark.parametrize("kind", METHODS)
def test_sizes_that_cannot_be_halved_evenly_work(kind, size):
    assert torch.isfinite(built(kind, size)(random_batch(*size), START).loss)


@pytest.mark.parametrize("kind", METHODS)
def test_one_sample_is_refused_where_a_normalised_map_is_one_pixel_and_only_there(kind):
    one = random_batch(3, 16, 16, samples=1)
    assert torch.isfinite(built(kind)(one, START).loss)
    method, one = built(kind, 8), random_batch(3, 8, 8, samples=1)
    with pytest.raises(BatchError, match="at least 2 samples"):
        method(one, START)
    assert torch.isfinite(method.eval()(one, START).loss)


@pytest.mark.parametrize("kind", METHODS)
def test_maps_that_neither_halve_nor_stay_are_refused(kind):
    name, options = METHODS[kind]
    network = selfkd.create_backbone("torchvision/resnet18", 10, input_size=64).network
    staged = selfkd.stage(network, ["bn1", "layer1", "layer3", "layer4"], input_size=64)
    with pytest.raises(BackboneError, match=r"stages that halve, rounded up, or stay.* 32x32, 16x16, 4x4, 2x2"):
        selfkd.create_method(name, staged, selfkd.DatasetInfo(6, 10), **options)
