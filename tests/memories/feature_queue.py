"""A second kind of memory, and somebody's own method that remembers by it: the smallest that the protocol allows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import mse_loss

from selfkd.contract import Batch, Progress, StepOutput
from selfkd.losses import full_precision
from selfkd.memories import Memory
from selfkd.methods.base import Method
from selfkd.process_group import process_count
from selfkd.supervision.historical import Historical


class FeatureQueue(Memory):
    """The last vectors of the epochs before, oldest first.

    Args:
        length: Q, the most that are kept.
        width: D, of a vector.
    """

    def __init__(self, length: int, width: int) -> None:
        self.length = length
        self.kept_QD = torch.empty(0, width)
        self._new: list[Tensor] = []

    @property
    def is_empty(self) -> bool:
        return len(self.kept_QD) == 0

    def write(self, vectors_BD: Tensor) -> None:
        self._new.append(vectors_BD.detach().float().clone())
        self.samples_written += len(vectors_BD)

    def discard(self) -> None:
        self._new.clear()
        self.samples_written = 0

    def commit(self) -> None:
        new = torch.cat([self.kept_QD[:0], *self._new])
        if process_count() > 1:
            gathered: list[Tensor] = [new] * process_count()
            dist.all_gather_object(gathered, new.cpu())  # others' devices are not this process's
            new = torch.cat(gathered).to(self.kept_QD.device)
        self.kept_QD = torch.cat([self.kept_QD, new])[-self.length :]
        self.discard()

    def state_dict(self) -> dict[str, object]:
        return {"kept": self.kept_QD}

    def check_state_dict(self, state: Mapping[str, object]) -> None:
        kept = state.get("kept")
        if not isinstance(kept, Tensor) or kept.shape[1:] != self.kept_QD.shape[1:] or len(kept) > self.length:
            found = list(kept.shape) if isinstance(kept, Tensor) else kept
            raise ValueError(f"the saved queue is {found}, expected at most {self.length} of {self.kept_QD.shape[1]}")

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        self.check_state_dict(state)
        self.discard()
        self.kept_QD = state["kept"].clone()

    def to(self, device: torch.device | str) -> Self:
        self.kept_QD = self.kept_QD.to(device)
        return self


class Queued(Method):
    """Labels mixed with its own past, and the distance of the mean feature to that of the queue."""

    def __init__(self, backbone, data):
        super().__init__(backbone, data)
        self.queue = FeatureQueue(30, backbone.num_features)
        self.memories["queue"] = self.queue
        self.supervise(Historical(), data, ("main",))

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        features = self.backbone(batch.images)
        pooled_BD = full_precision(features.pooled)
        loss = self.label_loss("main", features.logits, batch)
        if not self.queue.is_empty:
            loss = loss + mse_loss(pooled_BD.mean(dim=0), self.queue.kept_QD.mean(dim=0))
        return StepOutput(loss, {"loss": loss}, {"main": features.logits}, {"pooled": pooled_BD.detach()})

    def after_step(self, batch: Batch, output: StepOutput) -> None:
        super().after_step(batch, output)
        self.queue.write(output.remembered["pooled"])
