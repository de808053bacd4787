"""A run's folder: everything needed to check, resume, compare or ship the result."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from filelock import FileLock, Timeout

from selfkd.atomic_files import written_whole
from selfkd.errors import RecipeError, RunError
from selfkd.evaluation.scores import Scores
from selfkd.recipes.files import read_recipe
from selfkd.recipes.reader import MACHINE, Recipe, differences, resolve
from selfkd.training.checkpoint_files import has_sets, keep_newest

__all__ = ["EpochScores", "OwnBest", "RunFolder", "RunScores", "Selection", "SplitRecord", "read_json", "write_json"]


def write_text(path: Path, text: str) -> None:
    """Text, visible under its name only once it is whole.

    Raises: StorageError: if it cannot be written.
    """
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """JSON, visible under its name only once it is whole."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """What `write_json` wrote.

    Raises: RunError: if the file is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}") from error


_ADVICE = "give this one a name= of its own, or --overwrite the old one"


class EpochScores(TypedDict):
    """What an epoch's weights are worth: `epoch` counted from 1, `scores` by split."""

    epoch: int
    scores: dict[str, Scores]


class Selection(TypedDict):
    """How the best epoch was chosen: `rule` names the split; only epochs after `after_epoch` counted."""

    rule: str
    after_epoch: int


class OwnBest(TypedDict):
    """A head's highest top-1 accuracy in percent on the selecting split, and the (first) epoch that reached it."""

    epoch: int
    value: float


class SplitRecord(TypedDict):
    """How many images a split had, and where they came from, in words."""

    images: int
    origin: str


class RunScores(TypedDict):
    """A run's scores.json.

    `best` holds all heads at the epoch where main was best, `own_best` each at its own. `class_names` are in label
    order.
    """

    recipe: str
    method: str
    seed: int
    selection: Selection
    last: EpochScores
    best: EpochScores
    own_best: dict[str, OwnBest]
    class_names: list[str]
    splits: dict[str, SplitRecord]
    seconds: dict[str, float | None]
    parameters: dict[str, int]


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
    def data_file(self) -> Path:
        """Fingerprint of the data that the run was trained on."""
        return self.path / "data.json"

    @property
    def metrics_file(self) -> Path:
        """One row per epoch."""
        return self.path / "metrics.csv"

    @property
    def network_file(self) -> Path:
        """The plain network."""
        return self.path / "model.safetensors"

    @property
    def checkpoints(self) -> Path:
        """Where the run continues from; see `selfkd.training.checkpoint_files`."""
        return self.path / "checkpoints"

    def recipe(self, places: Mapping[str, Any] | None = None, trust_imports: bool = False) -> Recipe:
        """The stored recipe.

        Args:
            places: `data.root`, if the data has moved; `loader.workers` and the like, if the machine is another.
            trust_imports: let it name `package.module:Name`, whose import runs code.
        Raises: RecipeError: if the file is damaged, or `places` holds anything else.
        """
        others = set(places or {}) - MACHINE
        if others:
            raise RecipeError(
                f"{', '.join(sorted(others))} cannot change in a finished run; only {', '.join(sorted(MACHINE))} can"
            )
        return resolve(str(self.recipe_file), places, trust_imports)

    def scores(self) -> RunScores:
        """The stored scores.

        Raises: RunError: if the file is damaged.
        """
        scores: RunScores = read_json(self.scores_file)
        return scores

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out of the folder for a while; a killed process leaves it free.

        Raises: RunError: if another process is at work here, or the folder cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / ".lock", timeout=0)
            lock.acquire()
        except Timeout as error:
            raise RunError(f"another process is training in {self.path}") from error
        except OSError as error:
            raise RunError(f"the run folder {self.path} cannot be written: {error}") from error
        try:
            yield
        finally:
            lock.release()

    def check(self, recipe: Recipe) -> None:
        """Refuse a folder that holds something else than this recipe's run.

        Raises: RunError: naming what differs.
        """
        if not self.recipe_file.exists():
            if has_sets(self.checkpoints):
                raise RunError(f"{self.path} holds a checkpoint without its {self.recipe_file.name}; {_ADVICE}")
            return
        stored = read_recipe(str(self.recipe_file))
        if all(stored.get(section) == part for section, part in recipe.parts.items()):
            # Resolved, it has options that are newer than the file; the parts are those already imported for `recipe`.
            stored = resolve(str(self.recipe_file), trust_imports=True).flat()
        different = differences(stored, recipe.flat())
        if different:
            raise RunError(f"{self.path} holds another experiment ({'; '.join(different)}); {_ADVICE}")

    def holds_data(self, fingerprint: str) -> bool:
        """Whether the run was trained on the data of this fingerprint; True where that was not noted.

        Raises: RunError: if the note is damaged.
        """
        if not self.data_file.exists():
            return True
        noted = read_json(self.data_file)
        if not isinstance(noted, dict) or "fingerprint" not in noted:
            raise RunError(f"{self.data_file} is damaged")
        return bool(noted["fingerprint"] == fingerprint)

    def prepare(self, recipe: Recipe, fingerprint: str, overwrite: bool) -> None:
        """Make the folder ready to start or to continue this recipe on this data; call it locked.

        Args:
            recipe: what will be trained.
            fingerprint: of the data.
            overwrite: delete what an earlier run left here.
        Raises:
            RunError: if the folder holds another experiment, or cannot be emptied.
            StorageError: if it cannot be written.
        """
        try:
            if overwrite:
                self._clear()
        except OSError as error:
            raise RunError(f"the run folder {self.path} cannot be emptied: {error}") from error
        self.check(recipe)
        if not self.holds_data(fingerprint):
            raise RunError(f"{self.path} was trained on other data than {recipe.parts['data']} gives now; {_ADVICE}")
        if not self.recipe_file.exists():
            write_text(self.recipe_file, recipe.to_yaml())
        write_json(self.data_file, {"fingerprint": fingerprint})

    def _clear(self) -> None:
        """Empty the folder; broken off, what is left is an unfinished run of the old recipe."""
        self.scores_file.unlink(missing_ok=True)
        keep_newest(self.checkpoints, 0)  # in an order that leaves no set half removed
        kept_to_the_end = {self.recipe_file, self.path / ".lock"}
        for entry in set(self.path.iterdir()) - kept_to_the_end:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        self.recipe_file.unlink(missing_ok=True)
