import pytest
import torch
from torch import nn

from selfkd.errors import OptionError
from selfkd.training.optimizers import adamw, sgd
from selfkd.training.schedules import constant, cosine, multistep

STEPS = 7  # in an epoch


def rates(schedule, epochs, **options):
    """The learning rate of every epoch's first and last step, 1 at its highest."""
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), 1.0)
    scheduler = schedule(optimizer, epochs, STEPS, **options)
    used = []
    for _ in range(epochs * STEPS):
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return used


def test_shares_are_the_papers_epochs():
    """DTSKD: times 0.1 from epoch 150 and 225 of 300, counted from 0."""
    used = rates(multistep, 300)
    for epoch, rate in {0: 1, 149: 1, 150: 0.1, 224: 0.1, 225: 0.01, 299: 0.01}.items():
        assert used[epoch * STEPS : (epoch + 1) * STEPS] == pytest.approx([rate] * STEPS)


def test_milestones_above_one_are_epochs():
    assert rates(multistep, 20, milestones=(5, 10)) == pytest.approx(rates(multistep, 20, milestones=(0.25, 0.5)))


def test_a_shorter_run_keeps_its_shape():
    used = rates(multistep, 4)
    assert used == pytest.approx([1] * 2 * STEPS + [0.1] * STEPS + [0.01] * STEPS)


def test_shares_fit_into_the_shortest_run():
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), 1.0)
    scheduler = multistep(optimizer, 1, 2, milestones=(0.375, 0.65, 0.9))
    assert len(scheduler.milestones) >= 1
    assert max(scheduler.milestones) < 2


def test_warm_up_rises_step_by_step_and_milestones_count_from_its_end():
    used = rates(multistep, 10, warmup_epochs=2, milestones=(0.5,))
    assert used[: 2 * STEPS] == pytest.approx([(step + 1) / (2 * STEPS) for step in range(2 * STEPS)])
    assert used[2 * STEPS : 6 * STEPS] == pytest.approx([1] * 4 * STEPS)
    assert used[6 * STEPS :] == pytest.approx([0.1] * 4 * STEPS)


def test_a_warm_up_of_a_single_step():
    assert rates(constant, 2, warmup_epochs=1 / STEPS) == pytest.approx([1] * 2 * STEPS)


def test_cosine_falls_to_its_floor():
    used = rates(cosine, 10, final_fraction=0.1)
    assert used[0] == pytest.approx(1)
    assert used[5 * STEPS] == pytest.approx(0.55)
    assert used[-1] == pytest.approx(0.1, abs=1e-2)
    assert used == sorted(used, reverse=True)


def test_constant_stays():
    assert rates(constant, 3) == pytest.approx([1] * 3 * STEPS)


@pytest.mark.parametrize(
    ("schedule", "options", "message"),
    [
        (multistep, {"milestones": (0.75, 0.5)}, "schedule.milestones.*increasing"),
        (multistep, {"milestones": (0.0,)}, "schedule.milestones"),
        (multistep, {"milestones": (0.5, 0.5)}, "schedule.milestones=.*increasing numbers, none twice"),
        (multistep, {"milestones": (0.9, 2)}, "schedule.milestones=.*up to 1 are shares of the 5 epochs"),
        (multistep, {"milestones": (0.5, 1e308)}, "schedule.milestones=1e.308 .*at most 1e.30"),
        (multistep, {"milestones": (2, 150)}, "schedule.milestones=.*the last milestone lies beyond trainer.epochs=5"),
        (multistep, {"gamma": 0.0}, "schedule.gamma=0.0"),
        (multistep, {"warmup_epochs": 6}, "schedule.warmup_epochs=6 .*trainer.epochs=5"),
        (cosine, {"final_fraction": 1.0}, r"schedule.final_fraction=1.0 .*\[0, 1\)"),
        (constant, {"warmup_epochs": -1}, "schedule.warmup_epochs=-1"),
    ],
)
def test_values_out_of_range_are_refused(schedule, options, message):
    with pytest.raises(OptionError, match=message):
        rates(schedule, 5, **options)


@pytest.mark.parametrize(
    ("optimizer", "options", "message"),
    [
        (sgd, {"lr": 0.0}, "optimizer.lr=0.0"),
        (sgd, {"momentum": 1.5}, "optimizer.momentum=1.5"),
        (sgd, {"momentum": 0.0, "nesterov": True}, "optimizer.momentum=0.0"),
        (sgd, {"weight_decay": -1.0}, "optimizer.weight_decay=-1.0"),
        (adamw, {"beta1": 2.0}, "optimizer.beta1=2.0"),
    ],
)
def test_optimiser_values_out_of_range_are_refused(optimizer, options, message):
    with pytest.raises(OptionError, match=message):
        optimizer([{"params": nn.Linear(1, 1).parameters()}], **options)


def test_a_groups_own_weight_decay_wins():
    layer = nn.Linear(2, 2)
    built = sgd([{"params": [layer.weight]}, {"params": [layer.bias], "weight_decay": 0.0}], weight_decay=1e-3)
    assert [group["weight_decay"] for group in built.param_groups] == [1e-3, 0.0]
