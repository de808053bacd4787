import pytest
import torch

from selfkd.contract import Batch, DatasetInfo
from selfkd.errors import OptionError
from selfkd.supervision.smoothed import Smoothed


def test_every_head_gets_the_smoothed_label():
    batch = Batch(torch.zeros(1, 3, 8, 8), torch.tensor([1]))
    supervision = Smoothed(smoothing=0.2)
    supervision.bind(DatasetInfo(1, 4), ("main", "branch1"))
    for head in supervision.heads:
        assert supervision.target(head, batch)[0].tolist() == pytest.approx([0.05, 0.85, 0.05, 0.05])


def test_smoothing_outside_its_range_is_refused():
    with pytest.raises(OptionError, match=r"supervision.smoothing=1.5 .* \[0, 1\]"):
        Smoothed(smoothing=1.5)
