"""Self-knowledge distillation of image classifiers: a network teaches itself while it trains.

Names are imported when first used, so that `import selfkd` and the command's help stay quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selfkd.backbones import create_backbone
    from selfkd.backbones.staged import Staged, stage
    from selfkd.contract import Batch, DatasetInfo, Features, Needs, Normalization, Progress, StepOutput
    from selfkd.errors import SelfKDError
    from selfkd.evaluation.evaluation import Evaluation
    from selfkd.memories import History, Memory
    from selfkd.methods import create_method
    from selfkd.methods.base import Method
    from selfkd.reports.compare import compare
    from selfkd.reports.comparison import Comparison
    from selfkd.runs.evaluate import evaluate
    from selfkd.runs.listing import ListedRun, list_runs
    from selfkd.runs.loading import LoadedRun, load, load_method
    from selfkd.supervision import create_supervision
    from selfkd.supervision.base import Supervision
    from selfkd.teachers.teacher import Teacher

__all__ = [
    "Batch",
    "Comparison",
    "DatasetInfo",
    "Evaluation",
    "Features",
    "History",
    "ListedRun",
    "LoadedRun",
    "Memory",
    "Method",
    "Needs",
    "Normalization",
    "Progress",
    "SelfKDError",
    "Staged",
    "StepOutput",
    "Supervision",
    "Teacher",
    "compare",
    "create_backbone",
    "create_method",
    "create_supervision",
    "evaluate",
    "list_runs",
    "load",
    "load_method",
    "stage",
]

_HOMES = {
    "selfkd.backbones": ("create_backbone",),
    "selfkd.backbones.staged": ("Staged", "stage"),
    "selfkd.contract": ("Batch", "DatasetInfo", "Features", "Needs", "Normalization", "Progress", "StepOutput"),
    "selfkd.errors": ("SelfKDError",),
    "selfkd.evaluation.evaluation": ("Evaluation",),
    "selfkd.memories": ("History", "Memory"),
    "selfkd.methods": ("create_method",),
    "selfkd.methods.base": ("Method",),
    "selfkd.reports.compare": ("compare",),
    "selfkd.reports.comparison": ("Comparison",),
    "selfkd.runs.evaluate": ("evaluate",),
    "selfkd.runs.listing": ("ListedRun", "list_runs"),
    "selfkd.runs.loading": ("LoadedRun", "load", "load_method"),
    "selfkd.supervision": ("create_supervision",),
    "selfkd.supervision.base": ("Supervision",),
    "selfkd.teachers.teacher": ("Teacher",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("selfkd")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'selfkd' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
