"""AHBF against a naive loop of its formulas (specification of the comparison methods, A9)."""

import math

import pytest
import torch

import naive_losses
import selfkd
from operation_count import multiply_adds
from selfkd.errors import BackboneError, BatchError, OptionError

PROGRESS = selfkd.Progress(20, 100)
"""Half of the ramp of 40 epochs."""
RAMP = torch.tensor(math.exp(-5 / 4)).item()
"""Its weight, 0.2865, in single precision, which the method has."""
HEADS = ("main", "branch1", "branch2", "fusion1", "fusion2")


def double(backbone, batch, data, **options):
    method = selfkd.create_method("ahbf", backbone, data, **options).double()
    return method, selfkd.Batch(batch.images.double(), batch.labels)


def normalized(values, norm, axes):
    """Batch normalisation of a training batch."""
    shape = [1, -1, *([1] * (values.ndim - 2))]
    centred = values - values.mean(dim=axes, keepdim=True)
    deviation = (centred.square().mean(dim=axes, keepdim=True) + norm.eps).sqrt()
    return centred / deviation * norm.weight.view(shape) + norm.bias.view(shape)


def naive_logits(method, images):
    """Logits of all branches and fusions, computed once more from the method's own parts."""
    features = method.backbone(images)
    branches = [branch(features.stages[2]) for branch in method.branches.values()]
    x, z_x = features.final, features.logits
    ensembles = []
    for fusion, branch in zip(method.fusions.values(), branches, strict=True):
        convolution, norm = fusion.fuse
        joined = torch.einsum("oi,nihw->nohw", convolution.weight[:, :, 0, 0], torch.cat([x, branch.feature], dim=1))
        x = normalized(joined + convolution.bias[None, :, None, None], norm, (0, 2, 3))
        linear, gate_norm = fusion.gate.score[0], fusion.gate.score[1]
        scores = normalized(x.mean(dim=(2, 3)) @ linear.weight.T + linear.bias, gate_norm, (0,))
        exponentials = scores.clamp(min=0).exp()
        weights = exponentials / exponentials.sum(dim=1, keepdim=True)
        z_x = weights[:, :1] * z_x + weights[:, 1:] * branch.logits
        ensembles.append(z_x)
    return [features.logits, *(each.logits for each in branches)], ensembles


def test_loss_and_gradients_are_those_of_a_naive_loop(backbone, batch, data):
    """Gradients of all parameters, so no target is detached."""
    method, batch = double(backbone, batch, data, fused_weight=0.5, peer_weight=3.0, weight=1.5)
    output = method(batch, PROGRESS)
    z, e = naive_logits(method, batch.images)
    for head, expected in zip(HEADS, (*z, *e), strict=True):
        torch.testing.assert_close(output.logits[head], expected)

    def divergence(student, teacher):
        return naive_losses.divergence(student, teacher, 3)

    labels = sum(naive_losses.cross_entropy(each, batch.labels) for each in (*z, *e))
    earlier = (z[0], e[0])  # e_(-1) is z_0
    peers = sum(divergence(earlier[j], z[j + 1]) for j in range(2))
    fused = sum(divergence(z[j + 1], e[j]) + divergence(earlier[j], e[j]) for j in range(2))
    loss = labels + RAMP * 1.5 * (3 * peers + 0.5 * fused)
    for term, expected in {"labels": labels, "fused": fused, "peers": peers}.items():
        assert output.terms[term].item() == pytest.approx(expected.item(), rel=1e-9)
    assert output.loss.item() == pytest.approx(loss.item(), rel=1e-9)
    parameters = list(method.parameters())
    expected = torch.autograd.grad(loss, parameters)
    for gradient, wanted in zip(torch.autograd.grad(output.loss, parameters), expected, strict=True):
        torch.testing.assert_close(gradient, wanted)


def test_no_target_is_detached(backbone, batch, data):
    """The last branch teaches alone in one term, and the last gate teaches in the other; both learn from it."""
    method, batch = double(backbone, batch, data)
    terms = method(batch, PROGRESS).terms
    classifier = [method.branches["branch2"].classifier.weight]
    assert torch.autograd.grad(terms["peers"], classifier, retain_graph=True)[0].abs().sum() > 0
    last = [method.fusions["fusion2"].fuse[0].weight]
    assert torch.autograd.grad(terms["peers"], last, retain_graph=True, allow_unused=True) == (None,)
    assert torch.autograd.grad(terms["fused"], last)[0].abs().sum() > 0


def test_heads_and_branches(backbone, batch, data):
    method = selfkd.create_method("ahbf", backbone, data, branches=2)
    assert tuple(method.predict(batch.images)) == ("main", "branch1", "fusion1")
    method = selfkd.create_method("ahbf", backbone, data)
    assert tuple(method.predict(batch.images)) == HEADS
    assert method.deployed() is backbone.network
    assert tuple(method.exits()) == ("main",)


def test_each_branch_is_deeper_than_the_one_before(backbone, data):
    method = selfkd.create_method("ahbf", backbone, data, branches=4, depth_step=3)
    assert [len(branch.chain[0]) for branch in method.branches.values()] == [2 + 3, 2 + 6, 2 + 9]


def test_training_costs_what_the_specification_says():
    """Two deeper last stages and two fusions on ResNet-18: 130 + 3 percent more multiply-adds."""
    backbone = selfkd.create_backbone("resnet18_cifar", 100)
    method = selfkd.create_method("ahbf", backbone, selfkd.DatasetInfo(50_000, 100)).eval()
    stage, block, classifier = 8_393_728, 2 * 512 * 512 * 9 + 2 * 1024, 512 * 100 + 100
    fusion = 2 * 512 * 512 + 512 + 1024 + (512 * 2 + 2 + 4)
    added = sum(parameter.numel() for name, parameter in method.named_parameters() if not name.startswith("backbone."))
    assert added == (stage + 2 * block) + (stage + 4 * block) + 2 * classifier + 2 * fusion

    plain = multiply_adds(backbone)
    branches = 2 * (134_217_728 + 51_200) + 6 * 16 * 2 * 512 * 512 * 9
    fusions = 2 * (16 * 2 * 512 * 512 + 512 * 2)
    assert multiply_adds(method.predict) - plain == branches + fusions
    assert (round(100 * branches / plain), round(100 * fusions / plain)) == (130, 3)


def test_one_sample_is_refused_in_training_alone(backbone, batch, data):
    method = selfkd.create_method("ahbf", backbone, data)
    one = selfkd.Batch(batch.images[:1], batch.labels[:1])
    with pytest.raises(BatchError, match="at least 2 samples"):
        method(one, PROGRESS)
    assert torch.isfinite(method.eval()(one, PROGRESS).loss)


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("branches", 1, ">= 2 and at most 64"),
        ("depth_step", 0, ">= 1 and at most 100"),
        ("fused_weight", -1.0, ">= 0"),
        ("peer_weight", float("nan"), ">= 0"),
        ("weight", -0.5, ">= 0"),
        ("temperature", 0.0, "> 0"),
        ("ramp_share", 2.0, "> 0 and at most 1"),
    ],
)
def test_values_out_of_range_are_refused(backbone, data, option, value, allowed):
    with pytest.raises(OptionError, match=rf"{option}=.*{allowed}"):
        selfkd.create_method("ahbf", backbone, data, **{option: value})


def test_a_network_that_cannot_build_its_own_blocks_is_refused():
    staged = selfkd.create_backbone("resnet10t", 10, input_size=64)
    with pytest.raises(BackboneError, match=r"AHBF builds branches from the network's own blocks .*resnet18_cifar"):
        selfkd.create_method("ahbf", staged, selfkd.DatasetInfo(4, 10))
