"""The list of all methods with their needs, cost, heads and published gain. torch is not imported."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import resources
from typing import Any

from selfkd.contract import Needs
from selfkd.methods import METHODS

__all__ = [
    "GROUPS",
    "OVERVIEW",
    "OWN_BLOCKS_IN_WORDS",
    "STAGES_IN_WORDS",
    "ListedMethod",
    "PublishedGain",
    "list_methods",
]

GROUPS: Mapping[str, str] = {
    "baseline": "learns from the labels alone",
    "structure": "adds branches to the network, or copies of its stages, while it trains",
    "history": "learns from the network's own earlier predictions",
    "samples": "compares several images of a class, or several views of an image",
    "labels": "changes the labels",
    "teacher": "learns from a second network",
}
"""The groups of methods, each with what its methods do."""
OVERVIEW = "overview.json"
"""The file in this package that `benchmarks/method_pages.py` writes.

Group, needs and exits stand in it, too, although the methods' classes declare them: importing those would import torch.
A test compares both.
"""

STAGES_IN_WORDS: Mapping[str, str] = {
    "any": "",
    "halving": "stages that halve",
    "halving_or_equal": "stages that halve, rounded up, or stay equal",
}
"""Each value of `Needs.stages` in words."""
OWN_BLOCKS_IN_WORDS = "that can build its own blocks anew"
"""`Needs.own_blocks` in words that follow "network" or "peer"."""


@dataclass(frozen=True)
class PublishedGain:
    """A published top-1 accuracy of a ResNet-18, and that of plain training in the same protocol.

    Args:
        recipe: name of the recipe that reproduces it; `<protocol>/<data set>/resnet18/<method>`.
        source: the table of the paper.
        head: name of the head: "main" for the deployed one, or "mean of main, branch1".
        top1: the method's accuracy in percent.
        plain: the accuracy of plain training in percent.
    """

    recipe: str
    source: str
    head: str
    top1: float
    plain: float

    @property
    def points(self) -> float:
        """The difference in percentage points."""
        return round(self.top1 - self.plain, 2)

    @property
    def dataset(self) -> str:
        """Name of the data set."""
        return self.recipe.split("/")[1]


@dataclass(frozen=True)
class ListedMethod:
    """One method. Its costs were counted with the default options: ResNet-18 on 32x32 images of 100 classes.

    Args:
        summary: one line about it.
        group: one of `GROUPS`; empty if the method has not been counted yet. Then all that follows has its default.
        needs: what it needs from data, run and network.
        heads: names of the heads, "main" first.
        exits: heads whose sub-networks can be deployed; "main" is the plain network.
        extra_parameters: number of parameters that are trained beside those of the network.
        relative_multiply_adds: forward multiply-adds of a training step, divided by those of plain training. A teacher
            or peer is included.
        images_per_sample: how many images of each training sample an epoch takes.
        published: the published accuracies beside those of plain training.
    """

    summary: str
    group: str = ""
    needs: Needs = field(default_factory=Needs)
    heads: tuple[str, ...] = ()
    exits: tuple[str, ...] = ()
    extra_parameters: int | None = None
    relative_multiply_adds: float | None = None
    images_per_sample: int | None = None
    published: tuple[PublishedGain, ...] = ()

    @property
    def needs_in_words(self) -> str:
        """The needs, with commas between them; empty if there are none."""
        needs = self.needs
        words = [
            "index of each image" if needs.sample_index else "",
            f"{needs.views} views of each image" if needs.views > 1 else "",
            f"{needs.same_class} more of each image's class" if needs.same_class else "",
            "all labels" if needs.labels else "",
            "trained teacher" if needs.teacher else "",
            "second network" if needs.peer else "",
            STAGES_IN_WORDS[needs.stages],
            f"network {OWN_BLOCKS_IN_WORDS}" if needs.own_blocks else "",
        ]
        return ", ".join(filter(None, words))

    @property
    def parameters_in_words(self) -> str:
        """The parameters that are added for training: `+1.79 M`; empty if there are none."""
        if not self.extra_parameters:
            return ""
        millions = self.extra_parameters / 1e6
        if millions < 0.01:
            return f"+{self.extra_parameters:,}"
        return f"+{millions:.{2 if millions < 10 else 1}f} M"

    @property
    def multiply_adds_in_words(self) -> str:
        """The multiply-adds that training adds to those of plain training: `+7.2 %`; empty if there are none."""
        if self.relative_multiply_adds is None:
            return ""
        percent = (self.relative_multiply_adds - 1) * 100
        return f"+{percent:.{1 if percent < 10 else 0}f} %" if round(percent, 1) else ""

    def to_json(self) -> dict[str, Any]:
        """The record as plain values."""
        return asdict(self)


def list_methods() -> dict[str, ListedMethod]:
    """All methods of `METHODS`, by name. One that has not been counted has its summary alone."""
    text = resources.files(__package__).joinpath(OVERVIEW).read_text(encoding="utf-8")
    counted = json.loads(text)
    return {name: _listed(entry.summary, counted.get(name)) for name, entry in METHODS.items()}


def _listed(summary: str, counted: Mapping[str, Any] | None) -> ListedMethod:
    if counted is None:
        return ListedMethod(summary)
    return ListedMethod(
        summary=summary,
        **{
            **counted,
            "needs": Needs(**counted["needs"]),
            "heads": tuple(counted["heads"]),
            "exits": tuple(counted["exits"]),
            "published": tuple(PublishedGain(**each) for each in counted["published"]),
        },
    )
