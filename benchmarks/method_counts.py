"""Count what every method adds to the training of a ResNet-18, and write the pages that show it.

    python benchmarks/method_counts.py                      # all methods, in about a minute
    python benchmarks/method_counts.py --methods dtskd kd   # these alone; the other counts stay

A step takes two 32x32 images of 100 classes, in float32. The teacher is a ResNet-101, the peer another ResNet-18.
`benchmarks/method_pages.py` writes the pages again without counting.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

import method_pages
import selfkd
from report import Report
from selfkd.contract import Needs
from selfkd.methods import METHODS
from selfkd.methods.base import Method
from selfkd.runs.environment import environment

NETWORK, TEACHER = "resnet18_cifar", "resnet101_cifar"
CLASSES, SIDE = 100, 32
ANCHORS = 2
"""Training samples in a step, without the followers of their class: vectors are normalised over at least two."""

REPORT = Report("method_counts")


def counted(name: str) -> dict[str, Any]:
    """The counts of a method with its default options.

    Args:
        name: one of `METHODS`.
    Returns: plain values, of which `multiply_adds` is the forward pass of a training step for each training sample.
    """
    torch.manual_seed(0)
    needs = METHODS.load(name).needs
    second: dict[str, Any] = {}
    if needs.teacher:
        second["teacher"] = selfkd.Teacher(selfkd.create_backbone(TEACHER, CLASSES))
    if needs.peer:
        second["peer"] = selfkd.create_backbone(NETWORK, CLASSES)
    backbone = selfkd.create_backbone(NETWORK, CLASSES)
    parameters = _parameters(backbone)
    labels = tuple(range(ANCHORS)) if needs.labels else None
    method = selfkd.create_method(name, backbone, selfkd.DatasetInfo(ANCHORS, CLASSES, labels=labels), **second)
    multiply_adds, heads = _step(method)
    return {
        "needs": {name: value for name, value in asdict(method.needs).items() if value != getattr(Needs(), name)},
        "heads": heads,
        "exits": list(method.exits()),
        "parameters": parameters,
        "extra_parameters": _parameters(method) - parameters,
        "multiply_adds": multiply_adds,
        "images_per_sample": method.needs.views * (1 + method.needs.same_class),
    }


def _parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _step(method: Method) -> tuple[int, list[str]]:
    """The multiply-adds of the first step for each training sample, and the heads."""
    needs, progress = method.needs, selfkd.Progress(0, 300)
    members = 1 + needs.same_class
    batch = selfkd.Batch(
        torch.randn(needs.views * members * ANCHORS, 3, SIDE, SIDE),
        torch.arange(ANCHORS).repeat(members),
        torch.arange(ANCHORS).repeat(members) if needs.sample_index else None,
        needs.views,
        followers=needs.same_class,
    )
    method.train()
    method.begin_epoch(progress)
    with FlopCounterMode(display=False) as counter:
        output = method(batch, progress)
    return counter.get_total_flops() // 2 // ANCHORS, list(output.logits)


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS), help="methods to count")
    names = parser.parse_args(given).methods
    kept = (REPORT.read() or {"methods": {}})["methods"]
    counts = kept | {name: {**counted(name), "environment": environment()} for name in names}
    REPORT.write({"methods": {name: counts[name] for name in METHODS if name in counts}})
    method_pages.write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
