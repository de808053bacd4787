import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot

from selfkd.losses import label_probabilities, smooth, soft_cross_entropy


def test_one_hot():
    labels = torch.tensor([2, 0, 1])
    assert torch.equal(label_probabilities(labels, 3), one_hot(labels, 3).float())


def test_soft_labels_stay():
    soft = torch.tensor([[0.25, 0.75], [1.0, 0.0]])
    assert torch.equal(label_probabilities(soft, 2), soft)
    with pytest.raises(ValueError, match="for 3 classes"):
        label_probabilities(soft, 3)


def test_smoothing_is_pytorchs():
    torch.manual_seed(0)
    logits, labels = torch.randn(8, 5, dtype=torch.float64), torch.randint(5, (8,))
    ours = soft_cross_entropy(logits, smooth(label_probabilities(labels, 5, torch.float64), 0.1))
    assert ours.item() == pytest.approx(cross_entropy(logits, labels, label_smoothing=0.1).item(), rel=1e-12)
