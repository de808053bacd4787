"""Folders of finished runs with chosen accuracies, as small as the evidence that this repository keeps."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from selfkd.recipes.recipe import Recipe
from selfkd.runs.records import write_json, write_text
from selfkd.runs.run_folder import RunFolder

__all__ = ["write_run"]


def write_run(
    recipe: Recipe,
    runs: Path,
    last: Mapping[str, float],
    best: Mapping[str, float] | None = None,
    train: Mapping[str, float] | None = None,
    epochs: tuple[Mapping[str, float], ...] = (),
    seconds: float | None = 2.0,
    images_seen: int | None = 1000,
    device: str = "cpu",
    processor: str | None = None,
    processes: int = 1,
    rule: Mapping[str, Any] | None = None,
    n: int = 100,
    fingerprints: Mapping[str, str] | None = None,
) -> RunFolder:
    """Write a finished run of a recipe.

    Args:
        recipe: of the run.
        runs: folder of all runs.
        last, best, train: top-1 accuracy by head; `best` and `train` are `last` if they are not given.
        epochs: the top-1 accuracy by head of each epoch; `last` alone if empty.
        seconds: of an epoch.
        images_seen: in the whole training.
        device: that trained.
        processor: model of the CPU; None for a run of an older version, which does not say it.
        processes: that trained.
        rule: the selection; by default the best epoch on the test images.
        n: number of test images.
        fingerprints: the record of the data; None for a run without one.
    """

    def scores(values: Mapping[str, float], count: int) -> dict[str, Any]:
        return {head: {"top1": {"value": value, "unit": "%", "n": count}} for head, value in values.items()}

    folder = RunFolder.of(recipe, runs)
    folder.path.mkdir(parents=True)
    write_text(folder.recipe_file, recipe.to_yaml())
    known = {} if processor is None else {"processor": processor}
    write_json(folder.environment_file, {"device": device, "processes": processes, **known})
    if fingerprints is not None:
        write_json(folder.data_file, fingerprints)
    rows = epochs or (last,)
    with folder.metrics_file.open("w", newline="") as file:
        columns = ["epoch", "train/loss", "seconds/train", *(f"test/top1/{head}" for head in last)]
        log = csv.writer(file)
        log.writerow(columns)
        log.writerows([number, 0.5, seconds or 0, *row.values()] for number, row in enumerate(rows, start=1))
    write_json(
        folder.scores_file,
        {
            "recipe": recipe.name,
            "method": recipe.parts["method"],
            "seed": recipe.seed,
            "selection": rule or {"rule": "best-on-test", "after_epoch": 0},
            "last": {"epoch": 10, "scores": {"train": scores(train or last, 500), "test": scores(last, n)}},
            "best": {"epoch": 7 + recipe.seed, "scores": {"test": scores(best or last, n)}},
            "images_seen": images_seen,
            "seconds": {
                "train_epoch_median": seconds,
                "train_total": None if seconds is None else 10 * seconds,
            },
            "parameters": {"deployed": 1000, "training": 1500},
        },
    )
    return folder
