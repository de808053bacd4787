"""Methods with a second network on each seat that they have."""

import copy
from typing import Any

from torch import nn

import selfkd
from selfkd.backbones.staged import Staged
from selfkd.methods import METHODS
from selfkd.methods.base import Method

__all__ = ["another", "create_method"]


def create_method(name: str, backbone: Staged, data: selfkd.DatasetInfo, **options: Any) -> Method:
    """`selfkd.create_method`, with a teacher and a peer like the network where the method needs them."""
    needs = METHODS.load(name).needs
    if needs.teacher:
        options = {"teacher": selfkd.Teacher(another(backbone)), **options}
    if needs.peer:
        options = {"peer": another(backbone), **options}
    return selfkd.create_method(name, backbone, data, **options)


def another(backbone: Staged) -> Staged:
    """A network of the same form, drawn anew."""
    network = copy.deepcopy(backbone)
    for module in network.modules():
        reset = getattr(module, "reset_parameters", None)
        if isinstance(module, nn.Module) and callable(reset):
            reset()
    return network
