"""The learning rate of each named parameter, by hand."""

import pytest
import torch
from torch import nn

import selfkd
from selfkd.errors import BackboneError, OptionError
from selfkd.training.freezing import FrozenPart
from selfkd.training.learning_rates import LearningRates, scale_learning_rates, unscaled_learning_rate
from selfkd.training.optimizers import adamw, sgd
from selfkd.training.options import TrainerOptions
from selfkd.training.schedules import constant, cosine, multistep


@pytest.fixture
def loth():
    """LOTH, whose fusion has a weight decay of its own, around timm's smallest ResNet."""
    torch.manual_seed(0)
    backbone = selfkd.create_backbone("resnet10t", 5, input_size=64)
    return selfkd.create_method("loth", backbone, selfkd.DatasetInfo(10, 5), block="gbn")


def built(method, optimizer=sgd, frozen=(), lr=0.1, **options):
    groups = LearningRates(**options).groups(method.parameter_groups(), method.networks, frozen)
    return scale_learning_rates(optimizer(groups, lr=lr))


def rates(method, optimizer):
    """Learning rate and weight decay of every parameter, by name."""
    names = {id(parameter): name for name, parameter in method.named_parameters()}
    found = {
        names[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert set(found) == set(names.values())
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(names), "each parameter once"
    return found


@pytest.mark.parametrize("optimizer", [sgd, adamw])
def test_the_classifier_and_what_the_method_adds_learn_faster(loth, optimizer):
    decay = optimizer([{"params": [nn.Parameter(torch.zeros(1))]}]).param_groups[0]["weight_decay"]
    found = rates(loth, built(loth, optimizer, head_lr_factor=10))
    for name, (rate, weight_decay) in found.items():
        is_body = name.startswith("backbone.network.") and not name.startswith("backbone.network.fc.")
        assert rate == (0.1 if is_body else 1.0), name
        assert weight_decay == (1e-5 if name.startswith("fusion.") else decay), name


def test_each_layer_of_timms_network_learns_slower_than_the_next(loth):
    """ResNet-10t: the stem is layer 0, its four stages of one block are layers 1 to 4, the classifier is layer 5."""
    found = rates(loth, built(loth, layer_decay=0.5, head_lr_factor=10))
    for name, (rate, weight_decay) in found.items():
        module, _, rest = name.removeprefix("backbone.network.").partition(".")
        depth = {"conv1": 0, "bn1": 0, "layer1": 1, "layer2": 2, "layer3": 3, "layer4": 4}.get(module)
        is_body = name.startswith("backbone.") and depth is not None
        assert rate == pytest.approx(0.1 * 0.5 ** (5 - depth) if is_body else 1.0), (name, rest)
        assert weight_decay == (1e-5 if name.startswith("fusion.") else 5e-4)


def test_a_peer_learns_as_the_network_does():
    torch.manual_seed(0)
    backbone, peer = (selfkd.create_backbone("resnet18_cifar", 5, width=4, input_size=16) for _ in range(2))
    method = selfkd.create_method("dml", backbone, selfkd.DatasetInfo(10, 5), peer=peer)
    for name, (rate, _) in rates(method, built(method, head_lr_factor=3)).items():
        assert rate == pytest.approx(0.3 if ".fc." in name else 0.1), name


def test_without_options_every_group_stays_whole(loth):
    before = loth.parameter_groups()
    after = LearningRates().groups(before, loth.networks)
    assert [group["params"] for group in after] == [group["params"] for group in before]


@pytest.mark.parametrize("name", ["resnet18_cifar", "torchvision/resnet18"])
def test_a_network_that_does_not_say_the_order_of_its_layers_is_refused(name):
    backbone = selfkd.create_backbone(name, 5, input_size=32)
    method = selfkd.create_method("plain", backbone, selfkd.DatasetInfo(10, 5))
    with pytest.raises(
        BackboneError, match=r"optimizer.layer_decay=0.5 cannot be used with ResNet.*only timm's networks"
    ):
        built(method, layer_decay=0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head_lr_factor": 0.0}, "optimizer.head_lr_factor=0.0 .* > 0"),
        ({"head_lr_factor": -1.0}, "optimizer.head_lr_factor=-1.0"),
        ({"layer_decay": 0.0}, r"optimizer.layer_decay=0.0 .* in \(0, 1\], or null"),
        ({"layer_decay": 1.5}, "optimizer.layer_decay=1.5"),
    ],
)
def test_values_out_of_range_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        LearningRates(**options)


@pytest.mark.parametrize(
    ("schedule", "options"),
    [
        (multistep, {"warmup_epochs": 1}),
        (cosine, {"final_fraction": 0.1}),
        (cosine, {"final_fraction": 0.1, "warmup_epochs": 1}),
        (constant, {"warmup_epochs": 2}),
    ],
)
def test_every_schedule_keeps_the_ratios_to_its_end(loth, schedule, options):
    optimizer, alone = built(loth, head_lr_factor=10), sgd([{"params": [nn.Parameter(torch.zeros(1))]}], lr=0.1)
    schedules = [schedule(each, 4, 5, **options) for each in (optimizer, alone)]
    for _ in range(20):
        (expected,) = (group["lr"] for group in alone.param_groups)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(
            [expected * group["lr_scale"] for group in optimizer.param_groups]
        )
        assert unscaled_learning_rate(optimizer.param_groups) == pytest.approx(expected)
        for each, its_schedule in zip((optimizer, alone), schedules, strict=True):
            each.step()
            its_schedule.step()


def test_with_one_learning_rate_the_cosine_is_torchs_to_the_last_bit():
    ours, torchs = (sgd([{"params": [nn.Parameter(torch.zeros(1))]}], lr=0.1) for _ in range(2))
    schedules = cosine(ours, 3, 7, final_fraction=0.01), torch.optim.lr_scheduler.CosineAnnealingLR(torchs, 21, 0.001)
    for _ in range(21):
        assert ours.param_groups[0]["lr"] == torchs.param_groups[0]["lr"]
        for optimizer, schedule in zip((ours, torchs), schedules, strict=True):
            optimizer.step()
            schedule.step()


def test_frozen_parameters_have_groups_of_their_own(loth):
    frozen = FrozenPart(loth.networks, TrainerOptions(freeze=2))
    groups = LearningRates().groups(loth.parameter_groups(), loth.networks, frozen.parameters)
    still = {*map(id, frozen.parameters)}
    mixed = [{id(parameter) in still for parameter in group["params"]} for group in groups]
    assert sorted(map(sorted, mixed)) == [[False], [False], [True]]
