import pytest
from torch.nn.functional import cross_entropy

import selfkd
from selfkd.errors import OptionError


def test_loss_is_pytorchs(backbone, batch, data):
    method = selfkd.create_method("label_smoothing", backbone, data, smoothing=0.2).eval()
    output = method(batch, selfkd.Progress(0, 1))
    expected = cross_entropy(backbone.network(batch.images), batch.labels, label_smoothing=0.2)
    assert output.loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert set(output.terms) == {"soft_cross_entropy"}


def test_smoothing_is_checked(backbone, data):
    with pytest.raises(OptionError, match="smoothing=-0.1"):
        selfkd.create_method("label_smoothing", backbone, data, smoothing=-0.1)
