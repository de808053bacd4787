"""Every method of the table, with what it needs: a teacher, a peer, a run of a teacher; and small networks for them."""

import copy
from dataclasses import fields
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
    "declared_facts",
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


def declared_facts(name: str) -> set[str]:
    """What a method declares: needs that are not the defaults, methods of `Method` that it overrides, and memories."""
    method = METHODS.load(name)
    needs = {f"{field.name}={getattr(method.needs, field.name)}" for field in fields(Needs)}
    overridden = {key for key, value in vars(Method).items() if callable(value) and getattr(method, key) is not value}
    public = {key for key in overridden if not key.startswith("_")} - Method.__abstractmethods__
    remembers = {"memories"} if name in REMEMBERING else set()
    return (needs - {f"{field.name}={field.default}" for field in fields(Needs)}) | public | remembers


REMEMBERING = ("ps_kd", "dtskd")
"""Methods that remember predictions by default."""
FORGETTING = [name for name in METHODS if name not in REMEMBERING]
REPRESENTATIVES = ("teskd", "dtskd", "loth", "one", "kd", "dml")
"""A few methods that together have all declared facts; tests/contracts/test_representatives.py holds this."""
EVERY_METHOD = [pytest.param(name, marks=() if name in REPRESENTATIVES else pytest.mark.slow) for name in METHODS]
"""For tests that train: `make test` runs the representatives, and the slow tests run all others."""
