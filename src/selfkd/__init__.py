"""Self-knowledge distillation of image classifiers: a network teaches itself while it trains.

Names are imported when first used, so that `import selfkd` and the command's help stay quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selfkd.api import (
        check,
        compare,
        compare_runs,
        evaluate,
        evaluation_report,
        is_main_process,
        list_backbones,
        list_datasets,
        list_methods,
        list_recipes,
        list_runs,
        load,
        recipe_help,
        resolve_recipes,
        train,
        train_several,
    )
    from selfkd.backbones import create_backbone
    from selfkd.backbones.staged import Staged, stage
    from selfkd.contract import Batch, DatasetInfo, Features, Needs, Normalization, Progress, StepOutput
    from selfkd.errors import SelfKDError
    from selfkd.evaluation.evaluation import Evaluation
    from selfkd.memories import History, Memory
    from selfkd.methods import create_method
    from selfkd.methods.base import Method
    from selfkd.methods.listing import ListedMethod
    from selfkd.recipes.recipe import Recipe
    from selfkd.reports.comparison import Comparison
    from selfkd.runs.listing import ListedRun
    from selfkd.runs.loading import load_method
    from selfkd.runs.prediction import ClassProbability, Prediction
    from selfkd.runs.run import Run
    from selfkd.runs.several import TrainingOutcome
    from selfkd.supervision import create_supervision
    from selfkd.supervision.base import Supervision
    from selfkd.teachers.teacher import Teacher

__all__ = [
    "Batch",
    "ClassProbability",
    "Comparison",
    "DatasetInfo",
    "Evaluation",
    "Features",
    "History",
    "ListedMethod",
    "ListedRun",
    "Memory",
    "Method",
    "Needs",
    "Normalization",
    "Prediction",
    "Progress",
    "Recipe",
    "Run",
    "SelfKDError",
    "Staged",
    "StepOutput",
    "Supervision",
    "Teacher",
    "TrainingOutcome",
    "check",
    "compare",
    "compare_runs",
    "create_backbone",
    "create_method",
    "create_supervision",
    "evaluate",
    "evaluation_report",
    "is_main_process",
    "list_backbones",
    "list_datasets",
    "list_methods",
    "list_recipes",
    "list_runs",
    "load",
    "load_method",
    "recipe_help",
    "resolve_recipes",
    "stage",
    "train",
    "train_several",
]

_HOMES = {
    "selfkd.api": (
        "check",
        "compare",
        "compare_runs",
        "evaluate",
        "evaluation_report",
        "is_main_process",
        "list_backbones",
        "list_datasets",
        "list_methods",
        "list_recipes",
        "list_runs",
        "load",
        "recipe_help",
        "resolve_recipes",
        "train",
        "train_several",
    ),
    "selfkd.backbones": ("create_backbone",),
    "selfkd.backbones.staged": (
        "Staged",
        "stage",
    ),
    "selfkd.contract": (
        "Batch",
        "DatasetInfo",
        "Features",
        "Needs",
        "Normalization",
        "Progress",
        "StepOutput",
    ),
    "selfkd.errors": ("SelfKDError",),
    "selfkd.evaluation.evaluation": ("Evaluation",),
    "selfkd.memories": (
        "History",
        "Memory",
    ),
    "selfkd.methods": ("create_method",),
    "selfkd.methods.base": ("Method",),
    "selfkd.methods.listing": ("ListedMethod",),
    "selfkd.recipes.recipe": ("Recipe",),
    "selfkd.reports.comparison": ("Comparison",),
    "selfkd.runs.listing": ("ListedRun",),
    "selfkd.runs.loading": ("load_method",),
    "selfkd.runs.prediction": (
        "ClassProbability",
        "Prediction",
    ),
    "selfkd.runs.run": ("Run",),
    "selfkd.runs.several": ("TrainingOutcome",),
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
