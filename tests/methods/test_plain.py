import torch
from torch.nn.functional import cross_entropy

import selfkd


def test_loss_and_logits_are_the_networks(backbone, batch, data):
    method = selfkd.create_method("plain", backbone, data).eval()
    output = method(batch, selfkd.Progress(0, 1))
    logits = backbone.network(batch.images)
    assert torch.equal(output.logits["main"], logits)
    assert torch.equal(output.loss, cross_entropy(logits, batch.labels))
    assert set(output.terms) == {"cross_entropy"}


def test_it_adds_nothing(backbone, data):
    method = selfkd.create_method("plain", backbone, data)
    assert sum(p.numel() for p in method.parameters()) == sum(p.numel() for p in backbone.network.parameters())
    assert method.deployed() is backbone.network
    assert not method.memories
