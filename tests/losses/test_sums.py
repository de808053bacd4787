import pytest
import torch

from selfkd.losses import total


def test_terms_are_added_in_their_order():
    terms = [torch.tensor(value, requires_grad=True) for value in (1e8, -1e8, 1.0)]
    loss = total(iter(terms))
    assert loss.item() == 1.0
    assert [gradient.item() for gradient in torch.autograd.grad(loss, terms)] == [1.0] * 3
    assert total([terms[2]]) is terms[2]


def test_nothing_has_no_sum():
    with pytest.raises(ValueError, match="at least 1"):
        total([])
