"""What a comparison reads from one finished run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from selfkd.errors import RunError
from selfkd.given_paths import check_run
from selfkd.recipes.recipe import Recipe
from selfkd.reports.published import Figure, figures_for, selected
from selfkd.runs.data_record import read_fingerprint, read_test_fingerprint
from selfkd.runs.prepare import check_recipe
from selfkd.runs.records import RunScores, mean_top1_of, read_record
from selfkd.runs.run_folder import RunFolder

__all__ = ["HEADS", "MAIN", "Heads", "Result", "read_result"]

MAIN = "main"
"""The deployed head."""
_METRIC = "top1"
_CPU = "cpu"
_NOT_KEPT = "a run has not kept its predictions for the test images"

Heads = Literal["main", "all"]
HEADS: tuple[Heads, ...] = ("main", "all")


@dataclass(frozen=True)
class Result:
    """A finished run.

    Args:
        recipe: what was trained.
        folder: the run's folder.
        scores: its scores.
        environment: where it was trained; empty if the run does not say.
        selected: published figure to the run's accuracy in percent, selected as the figure was; None if the run cannot
            give it.
        fingerprint: checksum of all images of the run's data; None if the run does not say it.
        test_fingerprint: that of the test images alone; None, too, for a run of an older version.
        correct: head name to `[N]`, which test images the head classifies correctly after the last epoch, in the order
            of the test split; None if the predictions are not known.
        no_predictions: why they are not known, if they are not.
    """

    recipe: Recipe
    folder: RunFolder
    scores: RunScores
    environment: Mapping[str, Any]
    selected: Mapping[Figure, float | None]
    fingerprint: str | None = None
    test_fingerprint: str | None = None
    correct: Mapping[str, NDArray[np.bool_]] | None = None
    no_predictions: str = _NOT_KEPT

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return self.recipe.seed

    @property
    def device(self) -> str:
        """The device that trained: "NVIDIA H100", with several processes "2 x NVIDIA H100".

        A CPU has its model in brackets, if the run says it: "cpu (AMD EPYC)".
        """
        device, processes = str(self.environment.get("device", "unknown device")), self.environment.get("processes", 1)
        if device == _CPU and (model := self.environment.get("processor")) is not None:
            device = f"{device} ({model})"
        return device if processes == 1 else f"{processes} x {device}"

    @property
    def heads(self) -> tuple[str, ...]:
        """The heads, in the method's order."""
        return tuple(self.scores["last"]["scores"]["test"])

    def shown_heads(self, heads: Heads) -> tuple[tuple[str, ...], ...]:
        """The heads of each row of a comparison: one, or several whose accuracies are averaged.

        These are all heads, or the deployed head and those with a published figure; and the heads of each published
        figure that is a mean over heads.
        """
        published = [figure.heads for figure in self.selected]
        single = [(head,) for head in self.heads if heads == "all" or head == MAIN or (head,) in published]
        averaged = [each for each in published if len(each) > 1 and set(each) <= set(self.heads)]
        return (*single, *averaged)

    @property
    def test_images(self) -> int:
        """Number of test images."""
        return self.scores["last"]["scores"]["test"][MAIN][_METRIC]["n"]

    @property
    def rule(self) -> str:
        """The rule that chose the best epoch."""
        selection = self.scores["selection"]
        after = selection["after_epoch"]
        return selection["rule"] + (f" after epoch {after}" if after else "")

    def top1(self, which: Literal["last", "best"], heads: Sequence[str], split: str = "test") -> float | None:
        """Top-1 accuracy in percent after the last or at the best epoch, averaged over the heads.

        Returns: None if the run does not have that of each head.
        """
        return mean_top1_of(self.scores[which], heads, split)

    def has_data_of(self, other: Result) -> bool | None:
        """Whether both runs had the same data; None if they do not say it."""
        return _equal(self.fingerprint, other.fingerprint)

    def has_test_images_of(self, other: Result) -> bool | None:
        """Whether both runs had the same test images; None if they do not say it."""
        if self.folder == other.folder or self.has_data_of(other):
            return True
        if self.test_images != other.test_images:
            return False
        return _equal(self.test_fingerprint, other.test_fingerprint)

    def seconds(self, key: Literal["train_epoch_median", "train_total"]) -> float | None:
        """A time of the run; None if it was not logged."""
        return self.scores["seconds"].get(key)


def read_result(recipe: Recipe, folder: RunFolder) -> Result:
    """Read a finished run. Of its folder, recipe.yaml, scores.json, metrics.csv and environment.json are needed.

    If data.json is there, it tells whether runs had the same data.

    Raises:
        RunError: if the folder holds no run, or that of another recipe, a file is damaged, or the run has no top-1
            accuracy of main.
        CheckpointError: if its metrics.csv is damaged.
    """
    check_run(folder.path)
    check_recipe(folder, recipe)
    environment = read_record(folder.environment_file) if folder.environment_file.exists() else {}
    figures = {each: selected(each, folder) for each in figures_for(recipe)}
    fingerprints = read_fingerprint(folder), read_test_fingerprint(folder)
    result = Result(recipe, folder, folder.scores(), environment, figures, *fingerprints)
    if result.top1("last", (MAIN,)) is None or result.top1("best", (MAIN,)) is None:
        raise RunError(f"{folder.scores_file} holds no top-1 accuracy of the head main on the test images")
    return result


def _equal(one: str | None, other: str | None) -> bool | None:
    """Whether two fingerprints are equal; None if one is unknown, or another rule made it."""
    if one is None or other is None or one.rpartition(":")[0] != other.rpartition(":")[0]:
        return None
    return one == other
