import math

import pytest
import torch

from selfkd.branches.peer_attention import PeerAttention

B, P, D, K = 3, 3, 16, 4


def built():
    torch.manual_seed(0)
    attention = PeerAttention(D).double()
    features, logits = ([torch.randn(B, size).double().requires_grad_() for _ in range(P)] for size in (D, K))
    return attention, features, logits


def test_targets_are_those_of_a_naive_loop():
    attention, features, logits = built()
    targets = attention(features, logits)

    def projected(linear, vector_D):
        assert linear.bias is None
        return [sum(w.item() * x.item() for w, x in zip(row, vector_D, strict=True)) for row in linear.weight]

    for a in range(P):
        for n in range(B):
            query = projected(attention.query, features[a][n])
            keys = [projected(attention.key, features[b][n]) for b in range(P)]
            assert len(query) == D // 8
            exponentials = [math.exp(sum(q * k for q, k in zip(query, key, strict=True))) for key in keys]
            shares = [each / sum(exponentials) for each in exponentials]
            expected = [sum(shares[b] * logits[b][n, k].item() for b in range(P)) for k in range(K)]
            assert targets[a][n].tolist() == pytest.approx(expected)


def test_gradient_flows_into_projections_features_and_logits():
    attention, features, logits = built()
    attention(features, logits)[0].square().sum().backward()
    assert all(each.grad.abs().sum() > 0 for each in (*attention.parameters(), *features, *logits))


def test_a_feature_shorter_than_the_reduction_has_one_dimension():
    assert PeerAttention(6).query.weight.shape == (1, 6)


def test_targets_stay_in_single_precision_under_autocast():
    attention, features, logits = built()
    attention.float()
    with torch.autocast("cpu", torch.bfloat16):
        targets = attention([each.bfloat16() for each in features], [each.bfloat16() for each in logits])
    assert {target.dtype for target in targets} == {torch.float32}
