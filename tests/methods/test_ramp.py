import pytest
import torch

from selfkd.contract import Progress
from selfkd.errors import OptionError
from selfkd.methods.ramp import RampUp, ramp

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("epoch", "weight"), [(0, 0.0067), (20, 0.0601), (40, 0.2865), (60, 0.7316), (80, 1), (81, 1), (299, 1)]
)
def test_golden_values(epoch, weight):
    """Of the specification, section 0.1, for a ramp of 80 epochs."""
    assert ramp(epoch, 80) == pytest.approx(weight, abs=5e-5)


def test_a_ramp_of_part_of_an_epoch_is_over_after_the_first():
    assert [ramp(epoch, 0.5) for epoch in range(3)] == [pytest.approx(0.0067, abs=5e-5), 1, 1]


@pytest.mark.parametrize(("epochs", "over"), [(300, 80), (15, 4), (200, 54)])
def test_its_length_is_a_share_of_all_epochs(epochs, over):
    ramp_up = RampUp(80 / 300)
    weights = []
    for epoch in range(epochs):
        ramp_up.update(Progress(epoch, epochs), CPU)
        weights.append(ramp_up.value.item())
    assert weights == sorted(weights)
    assert weights.index(1) == over
    assert weights[0] == pytest.approx(0.0067, abs=5e-5)


@pytest.mark.parametrize("share", [0, -0.1, 1.5, float("nan"), "half"])
def test_other_shares_are_refused(share):
    with pytest.raises(OptionError, match="ramp_share="):
        RampUp(share)
