"""Which parameters are a network's stages and its classifier; the networks' own names say what is right."""

import pytest
import torch
from torch import nn

import selfkd
from selfkd.backbones.parameter_parts import parameter_parts


class Own(nn.Module):
    """Convolutions as stages, one layer that nothing uses, and a classifier behind a layer of its own."""

    def __init__(self, num_classes):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.blocks = nn.ModuleList(nn.Conv2d(4, 4, 1) for _ in range(4))
        self.unused = nn.Linear(2, 2)
        self.hidden = nn.Linear(4, 6)
        self.head = nn.Linear(6, num_classes)

    def forward(self, images):
        images = self.stem(images)
        for block in self.blocks:
            images = block(images)
        return self.head(self.hidden(images.mean((2, 3))))


def own(num_classes=7):
    return selfkd.stage(Own(num_classes), [f"blocks.{index}" for index in range(4)], input_size=8)


def both(*names):
    return {f"{name}.{kind}" for name in names for kind in ("weight", "bias")}


def test_a_stage_needs_the_layers_before_it_and_the_classifier_has_an_output_for_each_class():
    parts = parameter_parts(own())
    assert [set(each) for each in parts.up_to_stage] == [
        both("stem", *(f"blocks.{index}" for index in range(number))) for number in range(1, 5)
    ]
    assert parts.classifier == both("head")


def test_modes_gradients_and_flags_are_as_before():
    staged = own()
    staged.network.blocks[2].eval()
    staged.network.stem.weight.requires_grad_(False)
    parameter_parts(staged)
    assert staged.network.training
    assert not staged.network.blocks[2].training
    assert [name for name, each in staged.network.named_parameters() if not each.requires_grad] == ["stem.weight"]
    assert all(parameter.grad is None for parameter in staged.parameters())


def test_what_is_frozen_or_without_gradient_is_found_all_the_same():
    staged = own()
    expected = parameter_parts(staged)
    staged.network.requires_grad_(False)
    with torch.no_grad():
        assert parameter_parts(staged) == expected


@pytest.mark.parametrize(
    ("name", "size", "first", "second", "classifier"),
    [
        ("resnet18", 64, ("conv1", "bn1", "layer1"), ("layer2",), both("fc")),
        ("torchvision/resnet18", 64, ("conv1", "bn1", "layer1"), ("layer2",), both("fc")),
        ("resnet18_cifar", 32, ("conv1", "bn1", "layer1"), ("layer2",), both("fc")),
        ("vgg11_cifar", 32, ("stem", "layer1"), ("layer2",), both("fc.6")),
        (
            "mobilenetv3_small_050",
            64,
            ("conv_stem", "bn1", "blocks.0", "blocks.1"),
            ("blocks.2",),
            both("classifier"),
        ),
        ("convnext_atto", 64, ("stem", "stages.0"), ("stages.1",), both("head.fc")),
        ("torchvision/squeezenet1_1", 64, ("features.0",), ("features.3", "features.4"), both("classifier.1")),
    ],
)
def test_every_family_has_the_stages_that_its_names_say(name, size, first, second, classifier):
    staged = selfkd.create_backbone(name, 7, input_size=size)
    parts = parameter_parts(staged)
    names = [name for name, _ in staged.network.named_parameters()]

    def of(modules):
        return {each for each in names if each.startswith(tuple(f"{module}." for module in modules))}

    assert parts.classifier == {each for each in classifier if each in names}
    if name != "mobilenetv3_small_050":
        assert parts.up_to_stage[0] == of(first)
        assert parts.up_to_stage[1] == of((*first, *second))
    assert parts.up_to_stage[3] <= set(names) - parts.classifier


def test_the_distilled_transformer_has_two_classifiers():
    staged = selfkd.create_backbone("deit_tiny_distilled_patch16_224", 7, input_size=224)
    assert parameter_parts(staged).classifier == both("head", "head_dist")
