import math

import pytest
import torch

from selfkd.branches.gates import Gate

B, C, M, K = 5, 6, 3, 4


def built():
    torch.manual_seed(0)
    gate = Gate(C, M).double()
    with torch.no_grad():
        gate.score[1].weight.copy_(torch.tensor([1.0, 0.5, 2.0]))
        gate.score[1].bias.copy_(torch.tensor([0.1, -0.2, 0.3]))
    return gate, torch.randn(B, C, 2, 3).double(), [torch.randn(B, K).double() for _ in range(M)]


def naive_weights(gate, feature_map):
    """Weights of each sample, by loops; over a training batch."""
    linear, norm = gate.score[0], gate.score[1]
    scores = [
        [
            linear.bias[m].item() + sum(linear.weight[m, c].item() * feature_map[n, c].mean().item() for c in range(C))
            for m in range(M)
        ]
        for n in range(B)
    ]
    rectified = [[0.0] * M for _ in range(B)]
    for m in range(M):
        column = [row[m] for row in scores]
        mean = sum(column) / B
        variance = sum((each - mean) ** 2 for each in column) / B
        for n in range(B):
            normalized = (column[n] - mean) / math.sqrt(variance + norm.eps)
            rectified[n][m] = max(0.0, norm.weight[m].item() * normalized + norm.bias[m].item())
    return [[math.exp(each) / sum(map(math.exp, row)) for each in row] for row in rectified]


def test_the_ensemble_is_a_sum_weighted_for_each_sample():
    gate, feature_map, logits = built()
    ensemble = gate(feature_map, logits)
    weights = naive_weights(gate, feature_map)
    expected = [[sum(weights[n][m] * logits[m][n, k].item() for m in range(M)) for k in range(K)] for n in range(B)]
    torch.testing.assert_close(ensemble, torch.tensor(expected, dtype=torch.float64))
    assert len({tuple(row) for row in weights}) == B


def test_scores_that_are_all_cut_off_weigh_the_branches_alike():
    gate, feature_map, logits = built()
    with torch.no_grad():
        gate.score[1].weight.zero_()
        gate.score[1].bias.fill_(-1)
    torch.testing.assert_close(gate(feature_map, logits), torch.stack(logits).mean(dim=0))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_ensemble_has_the_branches_type(dtype):
    gate, feature_map, logits = built()
    ensemble = gate.float()(feature_map.float(), [each.to(dtype) for each in logits])
    assert ensemble.dtype == dtype
