"""ONE against a naive loop of its formulas (specification of the comparison methods, A6)."""

import pytest
import torch

import naive_losses
import selfkd
from operation_count import added_parameters, multiply_adds
from ramped_steps import HALFWAY, RAMP, assert_same_step, in_double
from selfkd.errors import OptionError

BRANCHES = ("main", "branch1", "branch2")


def naive_logits(method, images):
    """Logits of the branches, and their gated sum, computed once more from the method's own parts."""
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


def test_a_step_is_that_of_a_naive_loop(backbone, batch, data):
    method, batch = in_double("one", backbone, batch, data)
    branches, ensemble = naive_logits(method, batch.images)
    labels = sum(naive_losses.cross_entropy(each, batch.labels) for each in (*branches, ensemble))
    distillation = sum(naive_losses.divergence(each, ensemble.detach(), 3) for each in branches)
    logits = dict(zip((*BRANCHES, "fusion"), (*branches, ensemble), strict=True))
    terms = {"labels": labels, "distillation": distillation}
    assert_same_step(method, method(batch, HALFWAY), logits, terms, labels + RAMP * distillation)


def test_the_gate_learns_from_the_ensembles_labels_alone(backbone, batch, data):
    method = selfkd.create_method("one", backbone, data)
    terms = method(batch, HALFWAY).terms
    gate = list(method.gate.parameters())
    from_labels = torch.autograd.grad(terms["labels"], gate, retain_graph=True)
    assert all(gradient.abs().sum() > 0 for gradient in from_labels[2:])
    from_teacher = torch.autograd.grad(terms["distillation"], gate, allow_unused=True)
    assert from_teacher == (None,) * len(gate)


def test_training_costs_what_the_specification_says():
    """Two copies of the last stage and a gate on ResNet-18: 48 percent more multiply-adds."""
    backbone = selfkd.create_backbone("resnet18_cifar", 100)
    method = selfkd.create_method("one", backbone, selfkd.DatasetInfo(50_000, 100)).eval()
    stage, classifier, gate = 8_393_728, 512 * 100 + 100, 256 * 3 + 3 + 6
    assert added_parameters(method) == 2 * (stage + classifier) + gate

    plain = multiply_adds(backbone)
    more = multiply_adds(method.predict) - plain
    assert more == 2 * (134_217_728 + 51_200) + 256 * 3
    assert round(100 * more / plain) == 48


def test_there_are_at_least_two_branches(backbone, data):
    assert list(selfkd.create_method("one", backbone, data, branches=2).branches) == ["branch1"]
    with pytest.raises(OptionError, match="branches=1 .*>= 2 and at most 64"):
        selfkd.create_method("one", backbone, data, branches=1)
