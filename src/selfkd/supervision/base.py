"""What a head is asked to predict."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from selfkd.contract import Batch, Progress, StepOutput

__all__ = ["Supervision"]


class Supervision(ABC):
    """Target distributions for every head of a method; the method calls the hooks that its own life gives it."""

    def begin_epoch(self, progress: Progress, device: torch.device) -> None:
        """Prepare an epoch that is trained on this device; nothing by default."""

    @abstractmethod
    def targets(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Head name to `[B, K]` float32 probabilities without gradient."""

    def after_step(self, batch: Batch, output: StepOutput) -> None:
        """Remember what the step predicted; nothing by default."""
