"""DML: golden values by its formulas in NumPy, on the specification's logits."""

import pytest
import torch
from torch.nn.functional import cross_entropy

import golden_steps
import seats
import selfkd
from selfkd.errors import BackboneError, OptionError


def test_golden_step(backbone):
    step = golden_steps.dml(backbone)
    output = step()
    output.loss.backward()
    assert output.loss.item() == pytest.approx(5.836173251900378, rel=1e-9)
    assert output.terms["labels"].item() == pytest.approx(1.7145679542787953 + 2.4333723753412153, rel=1e-9)
    norms = [logits.grad.norm().item() for logits in step.logits.values()]
    assert norms == pytest.approx([0.4943150792298565, 0.5735356428732283], rel=1e-9)


def test_each_network_learns_from_its_own_loss_alone(backbone, batch, data):
    """Whoever teaches is detached: the gradient of a network is that of its label and of what its peer predicts."""
    method = seats.create_method("dml", backbone, data)
    output = method(batch, selfkd.Progress(0, 1))
    z1, z2 = output.logits.values()
    taught = z2.detach().softmax(1)
    own = cross_entropy(z1, batch.labels) + (taught * (taught.log() - z1.log_softmax(1))).sum(1).mean()
    parameters = list(method.backbone.parameters())
    expected = torch.autograd.grad(own, parameters, retain_graph=True)
    gradients = torch.autograd.grad(output.loss, parameters)
    for gradient, wanted in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, wanted)


def test_the_peer_is_trained_along_and_not_deployed(backbone, batch, data):
    method = seats.create_method("dml", backbone, data)
    assert list(method.state_dict()) == [
        *(f"backbone.{key}" for key in backbone.state_dict()),
        *(f"peer.{key}" for key in method.peer.state_dict()),
    ]
    assert list(method.predict(batch.images)) == ["main", "peer"]
    assert method.deployed() is backbone.network


def test_the_peer_must_be_another_network_for_the_same_images(backbone, data):
    with pytest.raises(OptionError, match="peer is missing; it must be a second staged network"):
        selfkd.create_method("dml", backbone, data)
    with pytest.raises(BackboneError, match="the peer shares parameters with the network"):
        selfkd.create_method("dml", backbone, data, peer=selfkd.stage(backbone.network, input_size=16))
    for options, message in (
        ({"num_classes": 7, "input_size": 16}, "the peer has 7 classes, the network 10"),
        ({"num_classes": 10, "input_size": 32}, "the peer takes images of 3x32x32 .*, the network 3x16x16"),
    ):
        peer = selfkd.create_backbone("resnet18_cifar", width=8, **options)
        with pytest.raises(BackboneError, match=message):
            selfkd.create_method("dml", backbone, data, peer=peer)
