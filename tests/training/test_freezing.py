"""What `trainer.freeze` keeps as it is, for how long, and what trains all the same."""

import pytest
import torch
from torch import nn

import seats
import selfkd
from selfkd.errors import BackboneError, OptionError
from selfkd.training.freezing import FrozenPart
from selfkd.training.options import TrainerOptions

BODY = ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")


def backbone(name="resnet18_cifar", size=16, **options):
    torch.manual_seed(0)
    options = {"width": 8} if name == "resnet18_cifar" else options
    return selfkd.create_backbone(name, 5, input_size=size, **options)


def frozen(staged, freeze, epochs=2):
    return FrozenPart([staged], TrainerOptions(epochs=5, freeze=freeze, freeze_epochs=epochs))


@pytest.mark.parametrize(("freeze", "count"), [(1, 3), (2, 4), (4, 6), ("backbone", 6)])
def test_the_stem_and_so_many_stages_are_frozen_and_then_train(freeze, count):
    staged = backbone()
    network = staged.network
    network.layer2[0].eval()  # somebody's own choice, which must survive
    modes = {name: module.training for name, module in network.named_modules()}
    part = frozen(staged, freeze)
    for epoch in range(2):
        part.begin_epoch(epoch)
        for name in BODY:
            module = network.get_submodule(name)
            still = name in BODY[:count]
            assert all(parameter.requires_grad is not still for parameter in module.parameters()), name
            assert module.training is not still
        assert network.fc.weight.requires_grad
        assert network.training
    part.begin_epoch(2)
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert {name: module.training for name, module in network.named_modules()} == modes


def test_nothing_is_frozen_by_default_and_all_epochs_are_without_a_number():
    staged = backbone()
    part = FrozenPart([staged], TrainerOptions(epochs=3))
    part.begin_epoch(0)
    assert not part.parameters
    assert all(parameter.requires_grad for parameter in staged.parameters())
    part = FrozenPart([staged], TrainerOptions(epochs=3, freeze="backbone"))
    for epoch in range(3):
        part.begin_epoch(epoch)
        assert not staged.network.conv1.weight.requires_grad


@pytest.mark.parametrize("method", seats.EVERY_METHOD)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_with_every_method_the_frozen_part_keeps_every_bit_and_all_else_trains(method, optimizer):
    from selfkd.training import OPTIMIZERS
    from selfkd.training.learning_rates import LearningRates

    staged = backbone()
    options = {"teskd": {"student_width": 16}, "loth": {"block": "gbn"}}.get(method, {})
    module = seats.create_method(method, staged, selfkd.DatasetInfo(8, 5), **options)
    part = FrozenPart(module.networks, TrainerOptions(epochs=2, freeze=2, freeze_epochs=1))
    groups = LearningRates(head_lr_factor=2).groups(module.parameter_groups(), module.networks, part.parameters)
    stepping = OPTIMIZERS.load(optimizer)(groups)
    first = ("conv1", "bn1", "layer1", "layer2")
    still = [f"backbone.network.{name}." for name in first]
    still += [f"peer.network.{name}." for name in first] if module.needs.peer else []
    images, labels, indices = torch.randn(8, 3, 16, 16), torch.arange(8) % 5, torch.arange(8)
    for epoch in range(2):
        before = {key: value.clone() for key, value in module.state_dict().items()}
        progress = selfkd.Progress(epoch, 2, 0, 2)
        part.begin_epoch(epoch)
        module.begin_epoch(progress)
        for _ in range(2):
            batch = selfkd.Batch(images, labels, indices)
            output = module(batch, progress)
            stepping.zero_grad()
            output.loss.backward()
            stepping.step()
            module.after_step(batch, output)
        module.end_epoch(progress)
        unchanged = {key for key, value in module.state_dict().items() if torch.equal(value, before[key])}
        expected = {key for key in before if key.startswith(tuple(still))} if epoch == 0 else set()
        assert unchanged == expected
        states = {id(parameter) for parameter, state in stepping.state.items() if state}
        assert states.isdisjoint(map(id, part.parameters)) is (epoch == 0)


class WithoutWeights(nn.Module):
    """A network with a normalisation that has no weights, before its stages."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3, affine=False)
        self.blocks = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(4))
        self.head = nn.Linear(3, 5)

    def forward(self, images):
        images = self.norm(images)
        for block in self.blocks:
            images = block(images)
        return self.head(images.mean((2, 3)))


def test_a_normalisation_without_weights_is_frozen_with_the_backbone_alone():
    staged = selfkd.stage(WithoutWeights(), [f"blocks.{index}" for index in range(4)], input_size=8)
    with pytest.raises(BackboneError, match="to which stage the normalisation 'norm' of WithoutWeights belongs"):
        frozen(staged, 1)
    frozen(staged, "backbone").begin_epoch(0)
    assert not staged.network.norm.training


class Beside(nn.Module):
    """Four branches beside each other, none of which needs the one before."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(4))
        self.head = nn.Linear(3, 5)

    def forward(self, images):
        return self.head(sum(block(images) for block in self.blocks).mean((2, 3)))


def test_stages_that_do_not_follow_each_other_are_refused():
    staged = selfkd.stage(Beside(), [f"blocks.{index}" for index in range(4)], input_size=8)
    with pytest.raises(BackboneError, match=r"trainer.freeze=1 cannot be used with Beside: stage 2 does not need"):
        frozen(staged, 1)
    frozen(staged, "backbone")


@pytest.mark.parametrize(
    ("name", "size"),
    [("convnext_atto", 64), ("vit_tiny_patch16_224", 224), ("torchvision/mobilenet_v2", 64), ("regnetx_002", 64)],
)
def test_other_families_are_frozen_stage_by_stage(name, size):
    counts = [len(frozen(backbone(name, size), freeze).parameters) for freeze in (1, 2, 3, 4, "backbone")]
    assert counts == sorted(counts)
    assert 0 < counts[0] < counts[3]


@pytest.mark.parametrize("freeze", [-1, 5, True, "stem", 1.5])
def test_other_values_are_refused(freeze):
    with pytest.raises(OptionError, match="trainer.freeze=.* from 0 to 4, or backbone"):
        TrainerOptions(freeze=freeze)


def test_freezing_needs_at_least_one_epoch():
    with pytest.raises(OptionError, match="trainer.freeze_epochs=0"):
        TrainerOptions(freeze=1, freeze_epochs=0)


def test_a_number_of_epochs_without_a_part_to_freeze_is_refused():
    with pytest.raises(OptionError, match=r"trainer.freeze_epochs=2 is not allowed; no part is frozen; set trainer"):
        TrainerOptions(freeze_epochs=2)
