"""How beta, the weight of the label in a historical target, falls over a run. It is constant within an epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from selfkd.contract import Progress

__all__ = ["DECAYS", "Decay", "cosine", "fixed", "linear"]

Decay = Callable[[Progress, float, float, int], float]


def cosine(progress: Progress, maximum: float, minimum: float, offset: int = 0) -> float:
    """`minimum + (maximum - minimum) * (1 + cos(pi * (epoch + offset) / total)) / 2`.

    Source: Li et al. (DTSKD), decay of beta; the release counts epochs from 0 (offset 0), the paper from 1 (offset 1).
    """
    share = (progress.epoch + offset) / progress.total_epochs
    return minimum + (maximum - minimum) * (1 + math.cos(math.pi * share)) / 2


def linear(progress: Progress, maximum: float, minimum: float, offset: int = 0) -> float:
    """`maximum - (maximum - minimum) * (epoch + offset) / total`.

    PS-KD's rule `1 - alpha * (epoch + 1) / total` is maximum 1, minimum `1 - alpha`, offset 1.
    Source: Kim et al. 2021 (PS-KD), equation 4.
    """
    return maximum - (maximum - minimum) * (progress.epoch + offset) / progress.total_epochs


def fixed(progress: Progress, maximum: float, minimum: float, offset: int = 0) -> float:
    """Always `maximum`."""
    return maximum


DECAYS: Mapping[str, Decay] = {"cosine": cosine, "linear": linear, "fixed": fixed}
