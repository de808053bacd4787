"""The evaluation of a run in the form in which a run's scores.json has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import selfkd
from selfkd.evaluation.ensemble import ENSEMBLE
from selfkd.evaluation.metrics import METRICS
from selfkd.evaluation.scores import Scores

__all__ = ["accuracies"]


def accuracies(run: Path, split: str = "test", checkpoint: str = "last", **options: Any) -> Scores:
    """The metrics of every epoch, of the method's own heads, without intervals; the options are those of `evaluate`."""
    evaluation = selfkd.evaluate(run, split, checkpoint, **options)
    return {
        head: {
            name: {key: score[key] for key in ("value", "unit", "n")}
            for name, score in metrics.items()
            if name in METRICS
        }
        for head, metrics in evaluation.scores.items()
        if not (evaluation.ensemble and head == ENSEMBLE)
    }
