"""The methods that `make test` trains with stand for all others."""

import pytest
import torch

import seats
import selfkd
from selfkd.methods import METHODS


def test_each_declared_fact_of_a_method_is_that_of_a_representative():
    """Otherwise add a small method with that fact to `seats.REPRESENTATIVES`."""
    shown = set().union(*(seats.declared_facts(name) for name in seats.REPRESENTATIVES))
    assert {name: seats.declared_facts(name) - shown for name in METHODS if seats.declared_facts(name) - shown} == {}


@pytest.mark.parametrize("name", METHODS)
def test_methods_with_a_memory_by_default_are_named(name):
    torch.manual_seed(0)
    backbone = selfkd.create_backbone("resnet18_cifar", 2, width=4, input_size=16)
    method = seats.create_method(name, backbone, selfkd.DatasetInfo(2, 2, labels=(0, 1)))
    assert bool(method.memories) == (name in seats.REMEMBERING)
