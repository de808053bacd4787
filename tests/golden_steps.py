"""Whole steps of the specification (section 5): real methods whose heads give the golden logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import golden
import seats
import selfkd
from selfkd.backbones.staged import Staged
from selfkd.contract import Features
from selfkd.methods.base import Method

HEADS = ("main", "branch1", "branch2", "branch3")
_DATA = selfkd.DatasetInfo(golden.B, golden.K)
_INDICES = torch.arange(golden.B)
_BATCH = selfkd.Batch(torch.zeros(golden.B, 3, 16, 16), golden.LABELS, _INDICES)  # no loss depends on the images


@dataclass(frozen=True)
class GoldenStep:
    """A method and what to give it.

    Args:
        method: whose heads give `logits`, whatever the images.
        batch: the labels of the specification.
        progress: where the run stands.
        logits: by head, requiring gradients.
        features: pooled, of the teacher and the students, shallowest first, requiring gradients; of TESKD alone.
    """

    method: Method
    batch: selfkd.Batch
    progress: selfkd.Progress
    logits: dict[str, Tensor]
    features: tuple[Tensor, ...] = ()

    def __call__(self) -> selfkd.StepOutput:
        """Take the step."""
        output: selfkd.StepOutput = self.method(self.batch, self.progress)
        return output


def _remember(method: Method, probabilities: dict[str, Tensor]) -> None:
    history = method.memories["history"]
    assert isinstance(history, selfkd.History)
    history.write(_INDICES, probabilities)
    history.commit()


def one_head(name: str, backbone: Staged, dtype: torch.dtype = torch.float64, **options: Any) -> GoldenStep:
    """`plain`, `label_smoothing` or `ps_kd`, which remembers the first golden prediction, in its last epoch."""
    method = selfkd.create_method(name, backbone, _DATA, **options)
    z0 = golden.logits(dtype)[0]
    method.backbone.forward = lambda images: Features((), images, images, z0)
    if "history" in method.memories:
        _remember(method, {"main": golden.histories()[0]})
    progress = selfkd.Progress(9, 10)
    method.begin_epoch(progress)
    return GoldenStep(method, _BATCH, progress, {"main": z0})


def kd(backbone: Staged, dtype: torch.dtype = torch.float64, **options: Any) -> GoldenStep:
    """Its teacher gives the second golden logits."""
    z0, z1 = golden.logits(dtype)[:2]
    network = seats.another(backbone)
    network.forward = lambda images: Features((), images, images, z1.detach())
    method = selfkd.create_method("kd", backbone, _DATA, teacher=selfkd.Teacher(network), **options)
    method.backbone.forward = lambda images: Features((), images, images, z0)
    return GoldenStep(method, _BATCH, selfkd.Progress(0, 1), {"main": z0})


def dml(backbone: Staged, dtype: torch.dtype = torch.float64, **options: Any) -> GoldenStep:
    """Its peer gives the second golden logits."""
    method = seats.create_method("dml", backbone, _DATA, **options)
    z = dict(zip(("main", "peer"), golden.logits(dtype), strict=False))
    method.predict = lambda images: z
    return GoldenStep(method, _BATCH, selfkd.Progress(0, 1), z)


def teskd(backbone: Staged, dtype: torch.dtype = torch.float64, **options: Any) -> GoldenStep:
    """Its pooled features are the golden ones, too."""
    method = selfkd.create_method("teskd", backbone, _DATA, **options)
    z = dict(zip(HEADS, golden.logits(dtype), strict=True))
    f = tuple(each.to(dtype).requires_grad_() for each in golden.features())
    students = (dict(zip(HEADS[1:], f[1:], strict=True)), {head: z[head] for head in HEADS[1:]})
    method.students.forward = lambda stages: students
    method.backbone.forward = lambda images: Features((), images, f[0], z["main"])
    return GoldenStep(method, _BATCH, selfkd.Progress(0, 200), z, f)


def dtskd(backbone: Staged, dtype: torch.dtype = torch.float64, **options: Any) -> GoldenStep:
    """Its history holds the golden predictions; the label's share is `beta_max`."""
    method = selfkd.create_method("dtskd", backbone, _DATA, decay="fixed", **options)
    z = dict(zip(HEADS, golden.logits(dtype), strict=True))
    method._logits = lambda features: z
    _remember(method, dict(zip(HEADS, golden.histories(), strict=True)))
    progress = selfkd.Progress(1, 300)
    method.begin_epoch(progress)
    return GoldenStep(method, _BATCH, progress, z)


def loth(backbone: Staged, dtype: torch.dtype = torch.float64, **options: Any) -> GoldenStep:
    """With the virtual teacher's logits."""
    method = selfkd.create_method("loth", backbone, _DATA, **options)
    z = dict(zip(HEADS, golden.logits(dtype), strict=True)) | {"fusion": golden.fused_logits(dtype)}
    method._logits = lambda features: z
    return GoldenStep(method, _BATCH, selfkd.Progress(0, 1), z)
