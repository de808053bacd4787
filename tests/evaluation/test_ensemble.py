import pytest
import torch

from selfkd.evaluation.ensemble import ENSEMBLE, ensemble_members, with_ensemble


@pytest.mark.parametrize(
    ("heads", "members"),
    [
        (["main"], ()),
        (["main", "peer"], ()),
        (["main", "branch1", "peer", "peer_branch1"], ("main", "branch1")),
        (["main", "branch1", "fusion"], ("main", "branch1", "fusion")),
        (["main", "branch1", "ensemble"], ()),
    ],
)
def test_the_members_are_the_networks_own_heads(heads, members):
    assert ensemble_members(heads) == members
    logits = {head: torch.randn(3, 4) for head in heads}
    joined = with_ensemble(logits)
    assert list(joined) == [*heads, *([ENSEMBLE] if members else [])]
    assert all(torch.equal(joined[head], logits[head]) for head in heads), "a head of that name is kept"


def test_its_probabilities_are_the_mean():
    logits = {head: 5 * torch.randn(20, 6) for head in ("main", "branch1", "branch2")}
    probabilities = with_ensemble(logits)[ENSEMBLE].softmax(dim=1)
    assert torch.allclose(probabilities, torch.stack([each.softmax(dim=1) for each in logits.values()]).mean(dim=0))


def test_a_class_that_is_impossible_for_all_has_finite_logits():
    logits = {head: torch.tensor([[0.0, -5000.0]]) for head in ("main", "branch1")}
    assert with_ensemble(logits)[ENSEMBLE].tolist() == [[0.0, -5000.0]]
