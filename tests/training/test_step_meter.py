import pytest
import torch

from selfkd.contract import StepOutput
from selfkd.errors import NonFiniteLossError
from selfkd.training.step_meter import StepMeter


def output(loss, kl=0.5, predicted=(0, 1)):
    logits = torch.nn.functional.one_hot(torch.tensor(predicted), 3).float()
    return StepOutput(torch.tensor(loss), {"kl": torch.tensor(kl)}, {"main": logits})


def test_means_accuracy_and_number_of_images():
    meter = StepMeter()
    meter.update(output(1.0), torch.tensor([0, 1]), 2)
    meter.update(output(2.0, kl=1.5), torch.tensor([0, 2]), 6)
    means = {"train/loss": 1.5, "train/kl": 1.0, "train/accuracy": 75.0}
    assert meter.compute() == pytest.approx({**means, "images/train": 8})
    meter.reset()
    assert meter.compute() == {}


def test_soft_labels_count_by_their_largest_share():
    meter = StepMeter()
    meter.update(output(1.0), torch.tensor([[0.6, 0.4, 0.0], [0.3, 0.0, 0.7]]), 2)
    assert meter.compute()["train/accuracy"] == 50


def test_rows_without_a_label_and_labels_without_a_row_do_not_count():
    meter = StepMeter()
    meter.update(output(1.0, predicted=(0, 1, 2, 2)), torch.tensor([0, 1]), 4)  # two views
    assert meter.compute()["train/accuracy"] == 100
    meter.update(output(1.0, predicted=(0, 1)), torch.tensor([2, 2, 0, 1]), 4)  # anchors alone
    assert meter.compute()["train/accuracy"] == 50


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_the_guard_names_the_term_and_the_steps(bad):
    meter = StepMeter()
    labels = torch.tensor([0, 1])
    for _ in range(3):
        meter.update(output(1.0), labels, 2)
    meter.guard(epoch=4)
    meter.update(output(1.0, kl=bad), labels, 2)
    meter.update(output(1.0), labels, 2)
    with pytest.raises(NonFiniteLossError, match="^kl became NaN or infinite in epoch 5, steps 4 to 5"):
        meter.guard(epoch=4)
