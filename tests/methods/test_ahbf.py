"""AHBF against a naive loop of its formulas (specification of the comparison methods, A9)."""

import pytest
import torch

import naive_losses
import selfkd
from operation_count import added_parameters, multiply_adds
from ramped_steps import HALFWAY, RAMP, assert_same_step, in_double
from selfkd.errors import OptionError

HEADS = ("main", "branch1", "branch2", "fusion1", "fusion2")


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


def test_a_step_is_that_of_a_naive_loop(backbone, batch, data):
    """With the gradients of all weights, so no target is detached."""
    method, batch = in_double("ahbf", backbone, batch, data, fused_weight=0.5, peer_weight=3.0, weight=1.5)
    z, e = naive_logits(method, batch.images)

    def divergence(student, teacher):
        return naive_losses.divergence(student, teacher, 3)

    labels = sum(naive_losses.cross_entropy(each, batch.labels) for each in (*z, *e))
    earlier = (z[0], e[0])  # e_(-1) is z_0
    branches = sum(divergence(earlier[j], z[j + 1]) for j in range(2))
    fused = sum(divergence(z[j + 1], e[j]) + divergence(earlier[j], e[j]) for j in range(2))
    terms = {"labels": labels, "fused": fused, "branches": branches}
    loss = labels + RAMP * 1.5 * (3 * branches + 0.5 * fused)
    assert_same_step(method, method(batch, HALFWAY), dict(zip(HEADS, (*z, *e), strict=True)), terms, loss)


def test_who_only_teaches_learns_from_it(backbone, batch, data):
    """The last branch teaches the fusion before it, and the last fusion teaches its parts."""
    method = selfkd.create_method("ahbf", backbone, data)
    terms = method(batch, HALFWAY).terms
    classifier = [method.branches["branch2"].classifier.weight]
    assert torch.autograd.grad(terms["branches"], classifier, retain_graph=True)[0].abs().sum() > 0
    last = [method.fusions["fusion2"].fuse[0].weight]
    assert torch.autograd.grad(terms["branches"], last, retain_graph=True, allow_unused=True) == (None,)
    assert torch.autograd.grad(terms["fused"], last)[0].abs().sum() > 0


def test_each_branch_is_deeper_than_the_one_before(backbone, data):
    method = selfkd.create_method("ahbf", backbone, data, branches=4, depth_step=3)
    assert [len(branch.chain[0]) for branch in method.branches.values()] == [2 + 3, 2 + 6, 2 + 9]
    assert list(method.fusions) == ["fusion1", "fusion2", "fusion3"]


def test_training_costs_what_the_specification_says():
    """Two deeper last stages and two fusions on ResNet-18: 130 + 3 percent more multiply-adds."""
    backbone = selfkd.create_backbone("resnet18_cifar", 100)
    method = selfkd.create_method("ahbf", backbone, selfkd.DatasetInfo(50_000, 100)).eval()
    stage, block, classifier = 8_393_728, 2 * 512 * 512 * 9 + 2 * 1024, 512 * 100 + 100
    fusion = 2 * 512 * 512 + 512 + 1024 + (512 * 2 + 2 + 4)
    assert added_parameters(method) == (stage + 2 * block) + (stage + 4 * block) + 2 * classifier + 2 * fusion

    plain = multiply_adds(backbone)
    branches = 2 * (134_217_728 + 51_200) + 6 * 16 * 2 * 512 * 512 * 9
    fusions = 2 * (16 * 2 * 512 * 512 + 512 * 2)
    assert multiply_adds(method.predict) - plain == branches + fusions
    assert (round(100 * branches / plain), round(100 * fusions / plain)) == (130, 3)


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("branches", 1, ">= 2 and at most 64"),
        ("depth_step", 0, ">= 1 and at most 100"),
        ("fused_weight", -1.0, ">= 0"),
        ("peer_weight", float("nan"), ">= 0"),
    ],
)
def test_values_out_of_range_are_refused(backbone, data, option, value, allowed):
    with pytest.raises(OptionError, match=rf"{option}=.*{allowed}"):
        selfkd.create_method("ahbf", backbone, data, **{option: value})
