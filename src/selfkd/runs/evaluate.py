"""Evaluate a split with the weights of a run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from selfkd.data.loading.streaming import killed_workers_named
from selfkd.data.sources.base import Source
from selfkd.data.splits import Split, Splits
from selfkd.errors import CheckpointError, NonFiniteLossError, RunError
from selfkd.evaluation.metrics import evaluate
from selfkd.evaluation.scores import Scores
from selfkd.runs.build import Experiment
from selfkd.runs.data_record import class_names_of, trained_on
from selfkd.runs.loading import SavedRun
from selfkd.training.memory import memory_for, memory_to_evaluate
from selfkd.training.threads import choose_threads, threads_restored

__all__ = ["evaluate_run", "evaluate_split"]

_log = logging.getLogger("selfkd")


def evaluate_split(experiment: Experiment, split: Split, device: torch.device, weights: Path) -> Scores:
    """Measure every head of an experiment's method, which is on `device`. An error names the file of its weights.

    Raises:
        CheckpointError: if a logit is NaN or infinite, so that the weights are damaged.
        MemoryExhaustedError: if a batch needs too much memory.
    """
    loader = experiment.evaluation_loader(split)
    try:
        with memory_to_evaluate(loader.batch_size):
            return evaluate(experiment.method, loader, device)
    except NonFiniteLossError as error:
        raise CheckpointError(f"{error}: the weights in {weights} are damaged") from error


def evaluate_run(
    path: Path, split: str, which: str, overrides: Mapping[str, Any], trust_imports: bool = False
) -> Scores:
    """Measure every head of a run. An unfinished run is evaluated from its newest undamaged checkpoint, with a warning.

    Args:
        path: the run's folder.
        split: "test", "train" or "validation".
        which: weights of the "last" or the "best" epoch.
        overrides: options of the machine, such as `data.root` where the data has moved, or `loader.workers`.
        trust_imports: let the run's recipe name `package.module:Name`, whose import runs code.
    Raises:
        RunError: if there is no such run, it has no such weights yet, it has no such split, or the data has another
            number of classes.
        RecipeError: if `overrides` holds any other option.
        CheckpointError: if the checkpoint is damaged, or its weights give logits that are NaN or infinite.
        DataError: if an image cannot be read.
        WorkerKilledError: if a process that reads images was killed.
        MemoryExhaustedError: if there is too little memory.
    """
    saved = SavedRun.open(path, which, overrides, trust_imports)
    class_names = class_names_of(saved.folder)
    weights = saved.weights
    saved.restore_network_file()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with memory_for("reading the data and building the network", "use a machine with more memory"):
        source: Source = saved.recipe.build("data")
        splits = source.load(saved.recipe.seed, whole_images=True)  # decodes no image of the other splits
        num_classes = len(splits.class_names)
        if class_names is not None and len(class_names) != num_classes:
            raise RunError(f"the run {path} was trained on {len(class_names)} classes; data.root gives {num_classes}")
        experiment = Experiment(saved.recipe, source, splits, saved.method(splits.info).to(device))
    _warn_of_other_data(saved, splits)
    images = splits.by_name.get(split)
    if images is None:
        raise RunError(f"the run {path} has no validation split, because data.validation_fraction was 0")
    with killed_workers_named(), threads_restored():
        if device.type == "cpu":
            torch.set_num_threads(_threads(experiment, asked="trainer.threads" in overrides))
        return evaluate_split(experiment, images, device, weights)


def _warn_of_other_data(saved: SavedRun, splits: Splits) -> None:
    path, data = saved.folder.path, saved.recipe.parts["data"]
    try:
        if not trained_on(saved.folder, splits):
            _log.warning("%s was trained on other data than data=%s gives now, or on data read differently", path, data)
    except RunError as error:
        _log.warning("%s; so it is not known whether the run was trained on the data that data=%s gives", error, data)


def _threads(experiment: Experiment, asked: bool) -> int:
    """How many threads evaluate on a CPU: those of `trainer.threads`, if the user asked for them now."""
    options, backbone = experiment.recipe.options, experiment.method.backbone
    threads = options["trainer"]["threads"] if asked else None
    batch_size = options["loader"]["evaluation_batch_size"]
    return choose_threads(backbone.network, backbone.input_size, batch_size, threads).number
