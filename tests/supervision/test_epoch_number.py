import pytest
import torch

from selfkd.contract import Progress
from selfkd.supervision.epoch_number import EpochNumber

CPU, META = torch.device("cpu"), torch.device("meta")


def share(progress):
    return progress.epoch / progress.total_epochs


def test_it_is_one_tensor_in_an_epoch_and_follows_epoch_length_and_device():
    number = EpochNumber(share)
    number.update(Progress(1, 4), CPU)
    first = number.value
    assert (first.shape, first.dtype, first.item()) == (torch.Size([]), torch.float32, 0.25)
    number.update(Progress(1, 4, step=7), CPU)
    assert number.value is first
    found = []
    for progress in (Progress(2, 4), Progress(1, 2), Progress(1, 5)):
        number.update(progress, CPU)
        found.append(number.value.item())
    assert found == pytest.approx([0.5, 0.5, 0.2])
    number.update(Progress(1, 5), META)
    assert number.value.device == META
