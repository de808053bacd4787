"""ONE against a naive loop of its formulas (specification of the comparison methods, A6)."""

import math

import pytest
import torch

import naive_losses
import selfkd
from operation_count import multiply_adds
from selfkd.errors import BackboneError, BatchError, OptionError

PROGRESS = selfkd.Progress(20, 150)
"""Half of the ramp of 40 epochs."""
RAMP = torch.tensor(math.exp(-5 / 4)).item()
"""Its weight, 0.2865, in single precision, which the method has."""
BRANCHES = ("main", "branch1", "branch2")


def double(backbone, batch, data, **options):
    method = selfkd.create_method("one", backbone, data, **options).double()
    return method, selfkd.Batch(batch.images.double(), batch.labels)


def naive_ensemble(method, images):
    """The gated sum of the branches' logits, computed once more from the network's own parts."""
    features = method.backbone(images)
    shared = features.stages[2]
    logits = [features.logits, *(branch(shared).logits for branch in method.branches.values())]
    linear, norm = method.gate.score[0], method.gate.score[1]
    scores = shared.mean(dim=(2, 3)) @ linear.weight.T + linear.bias
    centred = scores - scores.mean(dim=0)
    normalized = centred / (centred.square().mean(dim=0) + norm.eps).sqrt() * norm.weight + norm.bias
    exponentials = normalized.clamp(min=0).exp()
    weights = exponentials / exponentials.sum(dim=1, keepdim=True)
    return logits, sum(weights[:, [m]] * each for m, each in enumerate(logits))


def test_loss_and_gradients_are_those_of_a_naive_loop(backbone, batch, data):
    method, batch = double(backbone, batch, data)
    output = method(batch, PROGRESS)
    branches, ensemble = naive_ensemble(method, batch.images)
    for head, expected in zip((*BRANCHES, "fusion"), (*branches, ensemble), strict=True):
        torch.testing.assert_close(output.logits[head], expected)

    labels = sum(naive_losses.cross_entropy(each, batch.labels) for each in (*branches, ensemble))
    distillation = sum(naive_losses.divergence(each, ensemble.detach(), 3) for each in branches)
    loss = labels + RAMP * distillation
    assert output.terms["labels"].item() == pytest.approx(labels.item(), rel=1e-9)
    assert output.terms["distillation"].item() == pytest.approx(distillation.item(), rel=1e-9)
    assert output.loss.item() == pytest.approx(loss.item(), rel=1e-9)
    parameters = list(method.parameters())
    expected = torch.autograd.grad(loss, parameters)
    for gradient, wanted in zip(torch.autograd.grad(output.loss, parameters), expected, strict=True):
        torch.testing.assert_close(gradient, wanted)


def test_the_gate_learns_from_the_ensembles_labels_alone(backbone, batch, data):
    method, batch = double(backbone, batch, data)
    terms = method(batch, PROGRESS).terms
    gate = list(method.gate.parameters())
    from_labels = torch.autograd.grad(terms["labels"], gate, retain_graph=True)
    assert all(gradient.abs().sum() > 0 for gradient in from_labels[2:])
    from_teacher = torch.autograd.grad(terms["distillation"], gate, allow_unused=True)
    assert from_teacher == (None,) * len(gate)


def test_the_divergences_grow_from_epoch_to_epoch(backbone, batch, data):
    method, batch = double(backbone, batch, data)
    for epoch, weight in ((0, 0.0067), (20, 0.2865), (40, 1), (149, 1)):
        output = method(batch, selfkd.Progress(epoch, 150))
        share = (output.loss - output.terms["labels"]) / output.terms["distillation"]
        assert share.item() == pytest.approx(weight, abs=5e-5)


def test_heads_and_branches(backbone, batch, data):
    method = selfkd.create_method("one", backbone, data, branches=4)
    assert tuple(method.predict(batch.images)) == ("main", "branch1", "branch2", "branch3", "fusion")
    assert tuple(selfkd.create_method("one", backbone, data).predict(batch.images)) == (*BRANCHES, "fusion")
    assert method.deployed() is backbone.network
    assert tuple(method.exits()) == ("main",)


def test_training_costs_what_the_specification_says():
    """Two copies of the last stage and a gate on ResNet-18: 48 percent more multiply-adds."""
    backbone = selfkd.create_backbone("resnet18_cifar", 100)
    method = selfkd.create_method("one", backbone, selfkd.DatasetInfo(50_000, 100)).eval()
    stage, classifier, gate = 8_393_728, 512 * 100 + 100, 256 * 3 + 3 + 6
    added = sum(parameter.numel() for name, parameter in method.named_parameters() if not name.startswith("backbone."))
    assert added == 2 * (stage + classifier) + gate

    plain = multiply_adds(backbone)
    more = multiply_adds(method.predict) - plain
    assert more == 2 * (134_217_728 + 51_200) + 256 * 3
    assert round(100 * more / plain) == 48


def test_one_sample_is_refused_in_training_alone(backbone, batch, data):
    method = selfkd.create_method("one", backbone, data)
    one = selfkd.Batch(batch.images[:1], batch.labels[:1])
    with pytest.raises(BatchError, match="at least 2 samples"):
        method(one, PROGRESS)
    assert torch.isfinite(method.eval()(one, PROGRESS).loss)


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("branches", 1, ">= 2 and at most 64"),
        ("branches", 2.5, "whole number"),
        ("temperature", 0.0, "> 0"),
        ("ramp_share", 0.0, "> 0 and at most 1"),
        ("ramp_share", 80, "> 0 and at most 1"),
    ],
)
def test_values_out_of_range_are_refused(backbone, data, option, value, allowed):
    with pytest.raises(OptionError, match=rf"{option}=.*{allowed}"):
        selfkd.create_method("one", backbone, data, **{option: value})


def test_a_network_that_cannot_build_its_own_blocks_is_refused():
    staged = selfkd.create_backbone("resnet10t", 10, input_size=64)
    with pytest.raises(BackboneError, match=r"ONE builds branches from the network's own blocks .*resnet18_cifar"):
        selfkd.create_method("one", staged, selfkd.DatasetInfo(4, 10))
