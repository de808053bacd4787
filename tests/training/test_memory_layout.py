import timm
import torch
from torch import nn

from selfkd.backbones import network_factory
from selfkd.training.memory_layout import trains_in_channels_last

resnet18_cifar = network_factory("resnet18_cifar")


def test_networks_of_usual_width_train_in_channels_last():
    assert trains_in_channels_last(resnet18_cifar(10))
    assert trains_in_channels_last(resnet18_cifar(10, width=16))
    assert trains_in_channels_last(timm.create_model("mobilenetv2_035", num_classes=10))


def test_narrow_strided_pointwise_convolutions_do_not():
    assert not trains_in_channels_last(resnet18_cifar(10, width=8))
    assert not trains_in_channels_last(nn.Conv2d(32, 32, 1, stride=2, groups=4))
    assert trains_in_channels_last(nn.Conv2d(8, 8, 1))
    assert trains_in_channels_last(nn.Conv2d(8, 8, 3, stride=2, padding=1))


def test_what_is_said_to_be_right_is_right():
    torch.manual_seed(0)
    for channels in (16, 24):
        convolution = nn.Conv2d(channels, 32, 1, stride=2, bias=False)
        assert trains_in_channels_last(convolution)
        images = torch.randn(5, channels, 32, 32)
        convolution(images).square().sum().backward()
        expected, convolution.weight.grad = convolution.weight.grad, None
        convolution(images.contiguous(memory_format=torch.channels_last)).square().sum().backward()
        torch.testing.assert_close(convolution.weight.grad, expected, rtol=1e-4, atol=1e-3)
