import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import golden
import selfkd
from selfkd.errors import OptionError

# name: (parameters at 100 classes, mega multiply-adds at 32x32), specification, section 4
PUBLISHED = {
    "resnet18_cifar": (11_220_132, 555.5),
    "resnet34_cifar": (21_328_292, 1159.5),
    "resnet50_cifar": (23_705_252, 1298),
    "resnet101_cifar": (42_697_380, 2510),
    "resnet152_cifar": (58_341_028, 3722),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_multiply_adds_are_the_published(name):
    parameters, mega_macs = PUBLISHED[name]
    network = selfkd.create_backbone(name, 100).network.eval()
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, 32, 32))
    last_digit = 0.1 if isinstance(mega_macs, float) else 1  # ResNet-34's 1159.449 stands rounded up
    assert counter.get_total_flops() / 2e6 == pytest.approx(mega_macs, abs=0.55 * last_digit)


def test_logits_are_the_golden_ones():
    network = golden.fill_by_shape(selfkd.create_backbone("resnet18_cifar", 100).network)
    with torch.no_grad():
        logits = network(golden.images())
    assert logits[0, :3].tolist() == pytest.approx([-1.3507963, -0.67899679, 0.098194704], rel=1e-6)
    assert logits.sum().item() == pytest.approx(1.8537637, rel=1e-6)
    assert logits.norm().item() == pytest.approx(7.4354887, rel=1e-6)


def test_stage_shapes_are_the_papers():
    staged = selfkd.create_backbone("resnet18_cifar", 100)
    assert staged.stage_shapes == ((64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4))
    assert staged.final_shape == (512, 4, 4)
    assert staged.num_features == 512
    assert selfkd.create_backbone("resnet50_cifar", 10, width=8).stage_shapes[0] == (32, 32, 32)


def test_width_scales_every_stage():
    staged = selfkd.create_backbone("resnet18_cifar", 10, width=16)
    assert [shape[0] for shape in staged.stage_shapes] == [16, 32, 64, 128]
    with pytest.raises(OptionError, match="width=0"):
        selfkd.create_backbone("resnet18_cifar", 10, width=0)


def test_new_stages_and_classifiers_are_fresh_copies():
    staged = selfkd.create_backbone("resnet18_cifar", 10, width=8)
    copy = staged.new_stage(2)
    with torch.no_grad():
        features = staged(torch.randn(2, 3, 32, 32))
        assert copy(features.stages[1]).shape == features.stages[2].shape
        assert staged.new_classifier()(features.pooled).shape == (2, 10)
    own = dict(staged.network.layer3.named_parameters())
    assert all(not torch.equal(own[name], value) for name, value in copy.named_parameters() if "conv" in name)
    assert len(staged.new_stage(2, depth=1)) == 1
    assert staged.new_stage(3, width_factor=0.5)[-1].conv2.out_channels == 32
