import pytest
import torch
from torch.nn.functional import one_hot

import golden
import naive_losses
import seats
import selfkd
from operation_count import multiply_adds, parameters_of
from selfkd.errors import BackboneError, OptionError

OWN = ("main", "branch1", "branch2")
PEERS = ("peer", "peer_branch1", "peer_branch2")
START = selfkd.Progress(0, 1)


def with_given_heads(backbone, data):
    """A real DCM whose six classifiers give fixed logits."""
    method = seats.create_method("dcm", backbone, data)
    generator = torch.Generator().manual_seed(0)
    z = {
        head: torch.randn(golden.B, golden.K, generator=generator, dtype=torch.float64).requires_grad_()
        for head in (*OWN, *PEERS)
    }
    method.predict = lambda images: z
    return method, z


def test_the_loss_equals_a_naive_loop(backbone, batch, data):
    method, z = with_given_heads(backbone, data)
    output = method(batch, START)
    labels = sum(naive_losses.cross_entropy(each, batch.labels) for each in z.values())
    divergences = [
        naive_losses.divergence(z[learner], z[teacher])
        for learner in z
        for teacher in z
        if (learner in OWN) != (teacher in OWN)
    ]
    assert len(divergences) == 18
    mutual = sum(divergences)
    assert output.terms["labels"].item() == pytest.approx(labels.item(), rel=1e-9)
    assert output.terms["mutual"].item() == pytest.approx(mutual.item(), rel=1e-9)
    assert output.loss.item() == pytest.approx((labels + mutual).item(), rel=1e-9)


def test_each_classifier_learns_from_the_other_network_alone_and_gives_it_no_gradient(backbone, batch, data):
    """Then its gradient is the sum of its differences from the label and from the other network's classifiers."""
    method, z = with_given_heads(backbone, data)
    method(batch, START).loss.backward()
    p = {head: each.detach().softmax(dim=1) for head, each in z.items()}
    for head, each in z.items():
        teachers = PEERS if head in OWN else OWN
        expected = (p[head] - one_hot(batch.labels, golden.K)) + sum(p[head] - p[teacher] for teacher in teachers)
        torch.testing.assert_close(each.grad, expected / golden.B)


def test_every_part_of_both_networks_learns(backbone, batch, data):
    method = seats.create_method("dcm", backbone, data)
    output = method(batch, START)
    output.loss.backward()
    assert tuple(output.logits) == (*OWN, *PEERS)
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in method.parameters())
    assert method.deployed() is backbone.network


def test_a_pair_of_resnet_18_has_the_sizes_of_the_specification():
    backbone, peer = (selfkd.create_backbone("resnet18_cifar", 100) for _ in range(2))
    method = selfkd.create_method("dcm", backbone, selfkd.DatasetInfo(50_000, 100), peer=peer).to("meta").eval()
    for branches in (method.branches, method.peer_branches):
        assert parameters_of(branches) == 36_869_832, "as in DKS"
    assert multiply_adds(method.predict, device="meta") == 2 * 1_243_488_256, "2.49 G"


def test_the_peer_may_be_another_network(batch, backbone, data):
    peer = selfkd.create_backbone("mobilenetv2_cifar", 10, width=8, input_size=16)
    method = selfkd.create_method("dcm", backbone, data, peer=peer, last_width_factor=1)
    assert method.branches.branch2.classifier.in_features == backbone.num_features
    assert method.peer_branches.branch2.classifier.in_features == peer.num_features
    assert torch.isfinite(method.eval()(batch, START).loss)


def test_both_networks_must_be_able_to_build_new_stages(backbone, data):
    timm_network = selfkd.create_backbone("resnet10t", 10, input_size=16)
    with pytest.raises(BackboneError, match=r"DCM needs a network that can build its own blocks anew .*ResNet cannot"):
        selfkd.create_method("dcm", timm_network, data, peer=backbone)
    with pytest.raises(
        BackboneError,
        match=r"DCM needs a peer that can build .*; ResNet cannot; .* with this peer: dml",
    ):
        selfkd.create_method("dcm", backbone, data, peer=timm_network)


def test_bad_options_are_refused(backbone, data):
    with pytest.raises(OptionError, match=r"last_width_factor=0 .*> 0 and at most 8"):
        seats.create_method("dcm", backbone, data, last_width_factor=0)
    with pytest.raises(OptionError, match="peer is missing; it must be a second staged network"):
        selfkd.create_method("dcm", backbone, data)
