"""Every method of the table, with what it needs: a teacher, a peer, a run of a teacher; and small networks for them."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import selfkd
from selfkd.backbones.staged import Staged
from selfkd.contract import Needs
from selfkd.methods import METHODS
from selfkd.methods.base import Method
from selfkd.recipes.reader import resolve
from selfkd.runs.train import run

__all__ = [
    "EVERY_METHOD",
    "FORGETTING",
    "REMEMBERING",
    "REPRESENTATIVES",
    "another",
    "batch_for",
    "create_method",
    "overrides",
    "small_width",
]

_WIDTHS = {
    "resnext18_cifar_grouped": 32,
    "resnext34_cifar_grouped": 32,
    "resnext152_cifar_grouped": 16,
    "shufflenetv1_cifar": 6,
}
"""As narrow as the groups of a network allow."""


def create_method(name: str, backbone: Staged, data: selfkd.DatasetInfo, **options: Any) -> Method:
    """`selfkd.create_method`, with a teacher and a peer like the network where the method needs them."""
    needs = METHODS.load(name).needs
    if needs.teacher:
        options = {"teacher": selfkd.Teacher(another(backbone)), **options}
    if needs.peer:
        options = {"peer": another(backbone), **options}
    return selfkd.create_method(name, backbone, data, **options)


def batch_for(method: Method, start: int = 0) -> selfkd.Batch:
    """Four anchors, samples `start` to `start + 3`, with as many views and followers as the method needs."""
    views, members = method.needs.views, 1 + method.needs.same_class
    generator = torch.Generator().manual_seed(start)
    images = torch.randn(views * members * 4, *method.backbone.input_size, generator=generator)
    labels = (torch.arange(4) % method.num_classes).repeat(members)
    indices = torch.arange(start, start + 4).repeat(members) if method.needs.sample_index else None
    return selfkd.Batch(images, labels, indices, views, followers=members - 1)


def overrides(name: str, folder: Path) -> dict[str, Any]:
    """What a recipe on the digits must say beside the method, whose teacher's run is trained in `folder` for it."""
    if not METHODS.load(name).needs.teacher:
        return {}
    options = {"backbone.width": 4, "trainer.epochs": 1, "name": "teacher"}
    teacher = run(resolve("demo/digits/resnet18/plain", options), folder, show_progress=False)
    return {"teacher": "run", "teacher.path": str(teacher.path)}


def small_width(backbone: str) -> int:
    """A width with which one of our networks is small; its groups must divide it."""
    return _WIDTHS.get(backbone, 8)


def another(backbone: Staged) -> Staged:
    """A network of the same form, with weights of its own, the same whenever it is called."""
    network = copy.deepcopy(backbone)
    with torch.random.fork_rng():
        torch.manual_seed(1000)
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.reset_parameters()
    return network


def _smallest(name: str) -> Method:
    """The method on a small network, with all that it can need."""
    with torch.random.fork_rng():
        backbone = selfkd.create_backbone("resnet18_cifar", 2, width=8, input_size=16)
        return create_method(name, backbone, selfkd.DatasetInfo(2, 2, labels=(0, 1)))


def _kind(method: Method) -> tuple[bool, Needs]:
    """Whether it remembers predictions by default, and what it needs beside a network of some form."""
    return bool(method.memories), replace(method.needs, stages="any", own_blocks=False)


def _costs(method: Method) -> tuple[bool, int]:
    """Whether it has a single head, and the number of its parameters."""
    heads = method.supervision.heads if method.supervision else ()
    return len(heads) < 2, sum(parameter.numel() for parameter in method.parameters())


_BUILT = {name: _smallest(name) for name in METHODS}
REMEMBERING = [name for name in METHODS if _BUILT[name].memories]
"""Methods that remember predictions by default."""
FORGETTING = [name for name in METHODS if name not in REMEMBERING]
REPRESENTATIVES = [
    min((name for name in METHODS if _kind(_BUILT[name]) == kind), key=lambda name: _costs(_BUILT[name]))
    for kind in dict.fromkeys(map(_kind, _BUILT.values()))
]
"""The smallest method of each kind, one with several heads if there is one: one that forgets, one that remembers, one
with a teacher, one with a peer, ..."""
EVERY_METHOD = [pytest.param(name, marks=() if name in REPRESENTATIVES else pytest.mark.slow) for name in METHODS]
"""For tests that train: `make test` runs the representatives, and the slow tests run all others."""
