"""What holds for the methods whose branches are copies of the last stage: ONE, OKDDip and AHBF."""

import pytest
import torch

import selfkd
from selfkd.errors import BatchError, OptionError

METHODS = ("one", "okddip", "ahbf")


@pytest.fixture(params=METHODS)
def name(request):
    return request.param


def test_the_plain_network_is_deployed(backbone, batch, data, name):
    method = selfkd.create_method(name, backbone, data, branches=4)
    heads = list(method.predict(batch.images))
    assert heads[:4] == ["main", "branch1", "branch2", "branch3"]
    assert method.deployed() is backbone.network
    assert list(method.exits()) == ["main"]


def test_branches_start_like_the_network_with_weights_of_their_own(backbone, data, name):
    backbone.network.initialize_branches = lambda part: [
        torch.nn.init.constant_(parameter, 0.5) for parameter in part.parameters()
    ]
    method = selfkd.create_method(name, backbone, data)
    copies = method.branches
    assert all((parameter == 0.5).all() for parameter in copies.parameters())
    others = [each for key, each in method.named_children() if each not in (backbone, copies)]
    assert others
    assert not any((parameter == 0.5).all() for part in others for parameter in part.parameters())


@pytest.mark.parametrize(("epoch", "weight"), [(0, 0.0067), (40, 0.2865), (80, 1), (299, 1)])
def test_divergences_grow_with_the_epochs_as_in_the_specification(backbone, batch, data, name, epoch, weight):
    method = selfkd.create_method(name, backbone, data, ramp_share=80 / 300)
    early, late = (method(batch, selfkd.Progress(each, 300)) for each in (epoch, 299))
    shares = [output.loss - output.terms["labels"] for output in (early, late)]
    assert (shares[0] / shares[1]).item() == pytest.approx(weight, abs=2e-4)


@pytest.mark.parametrize(("name", "share"), [("one", 80 / 300), ("okddip", 80 / 300), ("ahbf", 80 / 200)])
def test_the_default_ramp_is_that_of_the_release(backbone, data, name, share):
    assert selfkd.create_method(name, backbone, data).ramp.share == share


@pytest.mark.parametrize("name", ["one", "ahbf"])
def test_a_gate_needs_two_samples_in_training_alone(backbone, batch, data, name):
    method = selfkd.create_method(name, backbone, data)
    one = selfkd.Batch(batch.images[:1], batch.labels[:1])
    with pytest.raises(BatchError, match="at least 2 samples"):
        method(one, selfkd.Progress(0, 1))
    assert torch.isfinite(method.eval()(one, selfkd.Progress(0, 1)).loss)


def test_one_sample_trains_without_a_gate(backbone, batch, data):
    method = selfkd.create_method("okddip", backbone, data)
    one = selfkd.Batch(batch.images[:1], batch.labels[:1])
    assert torch.isfinite(method(one, selfkd.Progress(0, 1)).loss)


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("branches", 2.5, "whole number"),
        ("branches", 65, "at most 64"),
        ("temperature", 0.0, "> 0"),
        ("ramp_share", 0.0, "> 0 and at most 1"),
        ("ramp_share", 80, "> 0 and at most 1"),
    ],
)
def test_values_out_of_range_are_refused(backbone, data, name, option, value, allowed):
    with pytest.raises(OptionError, match=rf"{option}=.*{allowed}"):
        selfkd.create_method(name, backbone, data, **{option: value})


@pytest.mark.parametrize("name", ["okddip", "ahbf"])
def test_a_negative_weight_is_refused_and_0_leaves_the_labels(backbone, batch, data, name):
    with pytest.raises(OptionError, match=r"weight=-0\.5 .*>= 0"):
        selfkd.create_method(name, backbone, data, weight=-0.5)
    output = selfkd.create_method(name, backbone, data, weight=0)(batch, selfkd.Progress(0, 1))
    assert output.loss.item() == output.terms["labels"].item()
