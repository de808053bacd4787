"""Steps of the methods whose distillation grows over the first epochs, halfway up the ramp and in double precision."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

import selfkd
from naive_losses import assert_same_loss
from selfkd.backbones.staged import Staged
from selfkd.methods.base import Method

__all__ = ["HALFWAY", "RAMP", "assert_same_step", "in_double"]

RAMP_SHARE = 0.4
HALFWAY = selfkd.Progress(20, 100)
RAMP = torch.tensor(math.exp(-5 / 4)).item()
"""The weight halfway, 0.2865, in single precision, which the methods have."""


def in_double(
    name: str, backbone: Staged, batch: selfkd.Batch, data: selfkd.DatasetInfo, **options: Any
) -> tuple[Method, selfkd.Batch]:
    """A method and its batch."""
    method = selfkd.create_method(name, backbone, data, ramp_share=RAMP_SHARE, **options)
    return method.double(), dataclasses.replace(batch, images=batch.images.double())


def assert_same_step(
    method: Method, output: selfkd.StepOutput, logits: Mapping[str, Tensor], terms: Mapping[str, Tensor], loss: Tensor
) -> None:
    """Hold a step to a naive one: its logits, in their order, its terms, its loss and the gradients of all weights."""
    assert list(output.logits) == list(logits)
    assert set(output.terms) == set(terms)
    for head, expected in logits.items():
        torch.testing.assert_close(output.logits[head], expected)
    for term, expected in terms.items():
        assert output.terms[term].item() == pytest.approx(expected.item(), rel=1e-9)
    assert_same_loss(output.loss, loss, dict(method.named_parameters()))
