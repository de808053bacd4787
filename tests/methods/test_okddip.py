"""OKDDip against a naive loop of its formulas (specification of the comparison methods, A7)."""

import math

import pytest
import torch

import naive_losses
import selfkd
from operation_count import multiply_adds
from selfkd.errors import BackboneError, OptionError

PROGRESS = selfkd.Progress(20, 150)
"""Half of the ramp of 40 epochs."""
RAMP = torch.tensor(math.exp(-5 / 4)).item()
"""Its weight, 0.2865, in single precision, which the method has."""
PEERS = ("branch1", "branch2", "branch3")


def double(backbone, batch, data, **options):
    method = selfkd.create_method("okddip", backbone, data, **options).double()
    return method, selfkd.Batch(batch.images.double(), batch.labels)


def naive_targets(method, images):
    """Logits of leader and peers, and each peer's target, computed once more from the method's own parts."""
    features = method.backbone(images)
    peers = [peer(features.stages[2]) for peer in method.peers.values()]
    pooled = [each.feature.mean(dim=(2, 3)) for each in peers]
    targets = []
    for own in pooled:
        query = own @ method.attention.query.weight.T
        scores = [(query * (other @ method.attention.key.weight.T)).sum(dim=1) for other in pooled]
        shares = [each.exp() / sum(other.exp() for other in scores) for each in scores]
        targets.append(sum(share[:, None] * each.logits for share, each in zip(shares, peers, strict=True)))
    return features.logits, [each.logits for each in peers], targets


def test_loss_and_gradients_are_those_of_a_naive_loop(backbone, batch, data):
    method, batch = double(backbone, batch, data, weight=1.5)
    output = method(batch, PROGRESS)
    leader, peers, targets = naive_targets(method, batch.images)
    for head, expected in zip(("main", *PEERS), (leader, *peers), strict=True):
        torch.testing.assert_close(output.logits[head], expected)

    labels = sum(naive_losses.cross_entropy(each, batch.labels) for each in (leader, *peers))
    to_peers = sum(naive_losses.divergence(each, target, 3) for each, target in zip(peers, targets, strict=True))
    to_leader = naive_losses.divergence(leader, sum(peers) / 3, 3)
    loss = labels + 1.5 * RAMP * (to_peers + to_leader)
    for term, expected in {"labels": labels, "peers": to_peers, "leader": to_leader}.items():
        assert output.terms[term].item() == pytest.approx(expected.item(), rel=1e-9)
    assert output.loss.item() == pytest.approx(loss.item(), rel=1e-9)
    parameters = list(method.parameters())
    expected = torch.autograd.grad(loss, parameters)
    for gradient, wanted in zip(torch.autograd.grad(output.loss, parameters), expected, strict=True):
        torch.testing.assert_close(gradient, wanted)


def test_no_target_is_detached(backbone, batch, data):
    """The attention learns through the peers' targets alone, and the peers from what they teach the leader."""
    method, batch = double(backbone, batch, data)
    terms = method(batch, PROGRESS).terms
    attention = list(method.attention.parameters())
    from_peers = torch.autograd.grad(terms["peers"], attention, retain_graph=True)
    assert all(gradient.abs().sum() > 0 for gradient in from_peers)
    for term in ("labels", "leader"):
        assert torch.autograd.grad(terms[term], attention, retain_graph=True, allow_unused=True) == (None, None)
    classifiers = [peer.classifier.weight for peer in method.peers.values()]
    assert all(each.abs().sum() > 0 for each in torch.autograd.grad(terms["leader"], classifiers))


def test_heads_and_branches(backbone, batch, data):
    method = selfkd.create_method("okddip", backbone, data, branches=3)
    assert tuple(method.predict(batch.images)) == ("main", "branch1", "branch2")
    assert tuple(selfkd.create_method("okddip", backbone, data).predict(batch.images)) == ("main", *PEERS)
    assert method.deployed() is backbone.network
    assert tuple(method.exits()) == ("main",)


def test_training_costs_what_the_specification_says():
    """Three copies of the last stage and two projections on ResNet-18: 72 percent more multiply-adds."""
    backbone = selfkd.create_backbone("resnet18_cifar", 100)
    method = selfkd.create_method("okddip", backbone, selfkd.DatasetInfo(50_000, 100)).eval()
    stage, classifier, projection = 8_393_728, 512 * 100 + 100, 512 * 64
    added = sum(parameter.numel() for name, parameter in method.named_parameters() if not name.startswith("backbone."))
    assert added == 3 * (stage + classifier) + 2 * projection

    plain = multiply_adds(backbone)
    more = multiply_adds(lambda images: method(selfkd.Batch(images, torch.tensor([3])), PROGRESS)) - plain
    assert more == 3 * (134_217_728 + 51_200) + 3 * 2 * projection
    assert math.floor(100 * more / plain) == 72


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("branches", 2, ">= 3 and at most 64"),
        ("temperature", -3.0, "> 0"),
        ("weight", -1.0, ">= 0"),
        ("ramp_share", 1.01, "> 0 and at most 1"),
    ],
)
def test_values_out_of_range_are_refused(backbone, data, option, value, allowed):
    with pytest.raises(OptionError, match=rf"{option}=.*{allowed}"):
        selfkd.create_method("okddip", backbone, data, **{option: value})


def test_a_network_that_cannot_build_its_own_blocks_is_refused():
    staged = selfkd.create_backbone("resnet10t", 10, input_size=64)
    with pytest.raises(BackboneError, match=r"OKDDip builds branches from the network's own blocks .*resnet18_cifar"):
        selfkd.create_method("okddip", staged, selfkd.DatasetInfo(4, 10))
