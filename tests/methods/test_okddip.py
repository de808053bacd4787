"""OKDDip against a naive loop of its formulas (specification of the comparison methods, A7)."""

import math

import pytest
import torch

import naive_losses
import selfkd
from operation_count import added_parameters, multiply_adds
from ramped_steps import HALFWAY, RAMP, assert_same_step, in_double
from selfkd.errors import OptionError

PEERS = ("branch1", "branch2", "branch3")


def naive_logits(method, images):
    """Logits of leader and peers, and each peer's target, computed once more from the method's own parts."""
    features = method.backbone(images)
    peers = [peer(features.stages[2]) for peer in method.branches.values()]
    pooled = [each.feature.mean(dim=(2, 3)) for each in peers]
    targets = []
    for own in pooled:
        query = own @ method.attention.query.weight.T
        scores = [(query * (other @ method.attention.key.weight.T)).sum(dim=1) for other in pooled]
        shares = [each.exp() / sum(other.exp() for other in scores) for each in scores]
        targets.append(sum(share[:, None] * each.logits for share, each in zip(shares, peers, strict=True)))
    return features.logits, [each.logits for each in peers], targets


def test_a_step_is_that_of_a_naive_loop(backbone, batch, data):
    """With the gradients of all weights, so no target is detached."""
    method, batch = in_double("okddip", backbone, batch, data, weight=1.5)
    leader, peers, targets = naive_logits(method, batch.images)
    labels = sum(naive_losses.cross_entropy(each, batch.labels) for each in (leader, *peers))
    to_peers = sum(naive_losses.divergence(each, target, 3) for each, target in zip(peers, targets, strict=True))
    to_leader = naive_losses.divergence(leader, sum(peers) / 3, 3)
    logits = dict(zip(("main", *PEERS), (leader, *peers), strict=True))
    terms = {"labels": labels, "peers": to_peers, "leader": to_leader}
    assert_same_step(method, method(batch, HALFWAY), logits, terms, labels + 1.5 * RAMP * (to_peers + to_leader))


def test_the_attention_learns_through_the_peers_targets_alone(backbone, batch, data):
    method = selfkd.create_method("okddip", backbone, data)
    terms = method(batch, HALFWAY).terms
    attention = list(method.attention.parameters())
    assert all(
        gradient.abs().sum() > 0 for gradient in torch.autograd.grad(terms["peers"], attention, retain_graph=True)
    )
    for term in ("labels", "leader"):
        assert torch.autograd.grad(terms[term], attention, retain_graph=True, allow_unused=True) == (None, None)


def test_the_peers_learn_from_what_they_teach_the_leader(backbone, batch, data):
    method = selfkd.create_method("okddip", backbone, data)
    classifiers = [peer.classifier.weight for peer in method.branches.values()]
    gradients = torch.autograd.grad(method(batch, HALFWAY).terms["leader"], classifiers)
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_training_costs_what_the_specification_says():
    """Three copies of the last stage and two projections on ResNet-18: 72 percent more multiply-adds."""
    backbone = selfkd.create_backbone("resnet18_cifar", 100)
    method = selfkd.create_method("okddip", backbone, selfkd.DatasetInfo(50_000, 100)).eval()
    stage, classifier, projection = 8_393_728, 512 * 100 + 100, 512 * 64
    assert added_parameters(method) == 3 * (stage + classifier) + 2 * projection

    plain = multiply_adds(backbone)
    more = multiply_adds(lambda images: method(selfkd.Batch(images, torch.tensor([3])), HALFWAY)) - plain
    assert more == 3 * (134_217_728 + 51_200) + 3 * 2 * projection
    assert math.floor(100 * more / plain) == 72


def test_there_are_at_least_two_peers(backbone, data):
    assert list(selfkd.create_method("okddip", backbone, data, branches=3).branches) == ["branch1", "branch2"]
    with pytest.raises(OptionError, match="branches=2 .*>= 3 and at most 64"):
        selfkd.create_method("okddip", backbone, data, branches=2)
