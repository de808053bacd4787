import pytest
import torch

from selfkd.contract import Batch, Progress
from selfkd.errors import OptionError
from selfkd.supervision import Smoothed


def test_every_head_gets_the_smoothed_label():
    batch = Batch(torch.zeros(1, 3, 8, 8), torch.tensor([1]))
    targets = Smoothed(4, ("main", "branch1"), 0.2).targets(batch, Progress(0, 1))
    assert list(targets) == ["main", "branch1"]
    assert targets["branch1"][0].tolist() == pytest.approx([0.05, 0.85, 0.05, 0.05])


def test_smoothing_outside_its_range_is_refused():
    with pytest.raises(OptionError, match=r"smoothing=1.5 .* \[0, 1\]"):
        Smoothed(4, ("main",), 1.5)
