"""Finish a run: score the last and the best epoch, and write the network and the records."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import torch

from selfkd.process_group import broadcast_from_main
from selfkd.runs.build import Experiment
from selfkd.runs.environment import environment
from selfkd.runs.evaluate import evaluate_and_predict_split, evaluate_split
from selfkd.runs.kept_predictions import keep_predictions, weights_checksum
from selfkd.runs.network_file import write_network_file
from selfkd.runs.records import EpochScores, OwnBest, RunScores, Selection, SplitRecord, write_json
from selfkd.runs.run_folder import RunFolder
from selfkd.training.checkpoint_content import load_weights
from selfkd.training.checkpoint_files import keep_newest, weights_file
from selfkd.training.epoch_log import read_epoch_log
from selfkd.training.module import METHOD, MethodModule
from selfkd.training.processes import World, is_main_process
from selfkd.training.training_module import SelectionMetric

__all__ = ["finish"]


_KEPT = ("last", "test")  # the epoch and the split whose predictions are kept


def finish(
    folder: RunFolder, experiment: Experiment, module: MethodModule, device: torch.device, keep_logits: bool = False
) -> None:
    """Finish a trained run. All processes evaluate; the main process writes.

    Args:
        folder: the run's folder.
        experiment: method and images.
        module: the module that trained the method.
        device: the device that trained it, and that evaluates it.
        keep_logits: keep the logits of all test images after the last epoch, too. With too little memory for them, a
            warning says that they are not kept.
    Raises:
        CheckpointError: if a checkpoint is damaged.
        MemoryExhaustedError: if a batch of the evaluation needs too much memory.
        StorageError: if a file cannot be written.
    """
    method, splits = experiment.method.to(device), experiment.splits

    def score(which: str) -> EpochScores:
        # All processes load the main process's file, because their batch normalisation saw different images last.
        weights = broadcast_from_main(lambda: weights_file(folder.checkpoints, which))
        origin = weights_checksum(weights)
        epoch = load_weights(method, weights, METHOD)
        scores = {}
        for name, split in splits.by_name.items():
            if keep_logits and (which, name) == _KEPT:
                scores[name], predictions = evaluate_and_predict_split(experiment, split, device, weights)
                if predictions is not None and is_main_process():
                    keep_predictions(folder, name, which, predictions, origin)
            else:
                scores[name] = evaluate_split(experiment, split, device, weights)
        return EpochScores(epoch=epoch, scores=scores)

    last = score("last")
    if is_main_process():
        write_network_file(folder, method.deployed(), splits.class_names, splits.train.input_size, last["epoch"])
    best = score("best")
    if is_main_process():
        scores = _run_scores(folder, experiment, module, last, best)
        keep_newest(folder.checkpoints, 1)
        write_json(folder.environment_file, {**environment(device), "processes": World.of(module.options).size})
        write_json(folder.scores_file, scores)  # last, because its presence says that the run is finished
    broadcast_from_main(lambda: None)  # no process leaves before the run is finished


def _run_scores(
    folder: RunFolder, experiment: Experiment, module: MethodModule, last: EpochScores, best: EpochScores
) -> RunScores:
    recipe, method, splits = experiment.recipe, experiment.method, experiment.splits
    selecting, after_epoch = module.selection_metric, module.options.best_after_epoch
    if best["epoch"] <= after_epoch:
        after_epoch = 0  # the run was too short for the rule, so that all epochs counted
    log = read_epoch_log(folder.metrics_file)  # without rows if it was switched off
    seconds = [row["seconds/train"] for row in log]
    return RunScores(
        recipe=recipe.name,
        method=recipe.parts["method"],
        seed=recipe.seed,
        selection=Selection(
            rule=f"best-on-{selecting.split}",
            after_epoch=after_epoch,
            metric=selecting.metric,
            higher_is_better=selecting.higher_is_better,
        ),
        last=last,
        best=best,
        own_best=_own_best(log, selecting, last["scores"][selecting.split]),
        class_names=list(splits.class_names),
        splits={
            name: SplitRecord(images=len(split), origin=splits.origin(name)) for name, split in splits.by_name.items()
        },
        images_seen=_images_seen(log),
        seconds={
            "train_epoch_median": statistics.median(seconds) if seconds else None,
            "train_total": sum(seconds) if seconds else None,
        },
        parameters={
            "deployed": sum(parameter.numel() for parameter in method.deployed().parameters()),
            "training": sum(parameter.numel() for parameter in method.parameters()),
        },
    )


def _images_seen(log: Sequence[Mapping[str, float]]) -> int | None:
    """The number of training images of all epochs; None if the log lacks that of an epoch."""
    logged = [int(row["images/train"]) for row in log if "images/train" in row]
    return sum(logged) if logged and len(logged) == len(log) else None


def _own_best(
    log: Sequence[Mapping[str, float]], selecting: SelectionMetric, heads: Iterable[str]
) -> dict[str, OwnBest]:
    """The best evaluated epoch of each head; empty if no epoch of the log was evaluated."""
    rows = [row for row in log if selecting.column in row]
    if not rows:
        return {}
    choose = max if selecting.higher_is_better else min
    best: dict[str, OwnBest] = {}
    for head in heads:
        column = replace(selecting, head=head).column
        row = choose(rows, key=lambda row: row[column])
        best[head] = OwnBest(epoch=int(row["epoch"]), value=row[column])
    return best
