import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot

import own_loop
import selfkd
from selfkd.errors import OptionError


def step(method, batch, progress):
    output = method(batch, progress)
    method.after_step(batch, output)
    return output


def test_the_first_epoch_is_plain_and_later_ones_trust_the_past(backbone, batch, data):
    method = selfkd.create_method("ps_kd", backbone, data, alpha=0.8)
    first, second = selfkd.Progress(0, 4), selfkd.Progress(1, 4)
    method.begin_epoch(first)
    plain = step(method, batch, first)
    assert plain.loss.item() == pytest.approx(cross_entropy(plain.logits["main"], batch.labels).item(), rel=1e-6)
    method.end_epoch(first)

    past = plain.logits["main"].detach().softmax(1)
    method.begin_epoch(second)
    output = step(method, batch, second)
    trust = 0.8 * 2 / 4
    target = (1 - trust) * one_hot(batch.labels, 10) + trust * past
    expected = -(target * output.logits["main"].log_softmax(1)).sum(1).mean()
    assert output.loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert set(output.terms) == {"soft_cross_entropy"}


def test_the_past_carries_no_gradient_and_the_history_changes_every_epoch(backbone, batch, data):
    method = selfkd.create_method("ps_kd", backbone, data)
    optimizer = torch.optim.SGD(method.parameters(), 0.1)
    outputs, remembered = [], []
    method.register_forward_hook(lambda *called: outputs.append(called[-1]))
    for epoch in range(3):
        own_loop.train(method, optimizer, lambda _: [batch], 3, until=epoch + 1)
        read = method.memories["history"].read(batch.indices, batch.labels)["main"]
        assert torch.allclose(read, outputs[epoch].logits["main"].detach().softmax(1))
        assert not read.requires_grad
        remembered.append(read)
    assert not torch.equal(remembered[0], remembered[1])
    assert not torch.equal(remembered[1], remembered[2])


def test_alpha_is_checked(backbone, data):
    with pytest.raises(OptionError, match=r"alpha=1.2 .* \[0, 1\]"):
        selfkd.create_method("ps_kd", backbone, data, alpha=1.2)
