"""A small real network and a batch for it."""

import pytest
import torch

import selfkd


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    return selfkd.create_backbone("resnet18_cifar", 10, width=8, input_size=16)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(4, 3, 16, 16, generator=generator)
    return selfkd.Batch(images, torch.tensor([1, 4, 7, 0]), torch.tensor([5, 0, 3, 2]))


@pytest.fixture
def data():
    return selfkd.DatasetInfo(6, 10)
