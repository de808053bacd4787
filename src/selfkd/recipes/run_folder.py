"""A run's folder: everything needed to check, resume, compare or ship the result."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfkd.errors import RecipeError, RunError
from selfkd.recipes.reader import PLACES, Recipe, differences, resolve
from selfkd.training.fit import BEST, LAST

__all__ = ["RunFolder", "write_json"]


def write_json(path: Path, content: Any) -> None:
    """JSON, visible under its name only once it is whole."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run, `<runs>/<recipe>[+overrides]/seed-<n>/`."""

    path: Path

    @classmethod
    def of(cls, recipe: Recipe, runs: Path) -> RunFolder:
        """Where this recipe's run lies."""
        return cls(runs / recipe.name / f"seed-{recipe.seed}")

    @classmethod
    def finished(cls, path: Path) -> RunFolder:
        """An existing, finished run.

        Raises: RunError: if there is no such run or it is not finished.
        """
        folder = cls(path)
        if not folder.recipe_file.is_file():
            raise RunError(f"{path} is no run folder: it holds no {folder.recipe_file.name}")
        if not folder.scores_file.is_file():
            raise RunError(f"the run {path} is not finished; the command that started it continues it")
        return folder

    @property
    def recipe_file(self) -> Path:
        """The resolved recipe."""
        return self.path / "recipe.yaml"

    @property
    def scores_file(self) -> Path:
        """What the run measured; written last, so its presence says that the run is finished."""
        return self.path / "scores.json"

    @property
    def environment_file(self) -> Path:
        """Versions, device and times."""
        return self.path / "environment.json"

    @property
    def metrics_file(self) -> Path:
        """One row per epoch."""
        return self.path / "metrics.csv"

    @property
    def network_file(self) -> Path:
        """The plain network."""
        return self.path / "model.safetensors"

    def checkpoint(self, which: str) -> Path:
        """The checkpoint of the "last" or the "best" epoch."""
        return self.path / "checkpoints" / {"last": LAST, "best": BEST}[which]

    def recipe(self, places: Mapping[str, Any] | None = None) -> Recipe:
        """The stored recipe.

        Args:
            places: `data.root`, if the data has moved.
        Raises: RecipeError: if the file is damaged, or `places` holds anything else.
        """
        others = set(places or {}) - PLACES
        if others:
            raise RecipeError(f"{', '.join(sorted(others))} cannot change in a finished run; only data.root can")
        return resolve(str(self.recipe_file), places)

    def scores(self) -> Mapping[str, Any]:
        """The stored scores.

        Raises: RunError: if the file is damaged.
        """
        try:
            content: Mapping[str, Any] = json.loads(self.scores_file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"{self.scores_file} cannot be read: {error}") from error
        return content

    def prepare(self, recipe: Recipe, overwrite: bool) -> None:
        """Make the folder ready to start or to continue this recipe.

        Args:
            recipe: what will be trained.
            overwrite: delete what an earlier run left here.
        Raises: RunError: if the folder holds another experiment, or cannot be written.
        """
        try:
            if overwrite and self.recipe_file.exists():
                shutil.rmtree(self.path)
            if self.recipe_file.exists():
                different = differences(self.recipe(), recipe)
                if different:
                    raise RunError(
                        f"{self.path} holds another experiment ({'; '.join(different)}); "
                        "give this one a name= of its own, or --overwrite the old one"
                    )
            self.path.mkdir(parents=True, exist_ok=True)
            self.recipe_file.write_text(recipe.to_yaml(), encoding="utf-8")
        except OSError as error:
            raise RunError(f"the run folder {self.path} cannot be written: {error}") from error
