"""The folder of one run: where its files lie, and what they say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from selfkd.contract import TeacherRecord
from selfkd.errors import RecipeError, RunError, UserError
from selfkd.given_paths import RECIPE_FILE, check_run
from selfkd.recipes.files import read_recipe
from selfkd.recipes.reader import resolve
from selfkd.recipes.recipe import MACHINE, WEIGHTS, Recipe, is_of_machine
from selfkd.runs.records import RunScores, read_scores, read_teacher

__all__ = ["RunFolder"]

_LOCK_SECONDS = 1.0  # `is_locked` holds the lock for a moment


class _Entry:
    """A file or a folder inside a run's folder."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, folder: RunFolder, owner: type[RunFolder]) -> Path:
        return folder.path / self._name


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run, `<runs>/<recipe>[+overrides]/seed-<n>/`."""

    path: Path

    recipe_file = _Entry(RECIPE_FILE)
    """The resolved recipe."""
    data_file = _Entry("data.json")
    """The fingerprint of the training data and its description; see `selfkd.runs.data_record`."""
    teacher_file = _Entry("teacher.json")
    """The teacher's record, in runs that have a teacher."""
    weights_file = _Entry("starting_weights.json")
    """The files that the networks started from, in runs that have some; see `selfkd.runs.starting_weights`."""
    metrics_file = _Entry("metrics.csv")
    """One row for each epoch."""
    checkpoints = _Entry("checkpoints")
    """The folder of the checkpoints; see `selfkd.training.checkpoint_files`."""
    network_file = _Entry("model.safetensors")
    """The plain network after the last epoch."""
    checksums_file = _Entry("checksums.json")
    """Size and CRC-32 of the network file."""
    environment_file = _Entry("environment.json")
    """Versions, device and time."""
    scores_file = _Entry("scores.json")
    """The scores. It is written last, so that its presence says that the run is finished."""
    lock_file = _Entry(".lock")
    """Locked by the process that writes here."""

    @classmethod
    def of(cls, recipe: Recipe, runs: Path) -> RunFolder:
        """The folder of a recipe's run, whether or not it exists."""
        return cls(runs / recipe.name / f"seed-{recipe.seed}")

    @classmethod
    def existing(cls, path: Path) -> RunFolder:
        """The folder of a run that has begun.

        Raises: RunError: if there is no such run.
        """
        check_run(path)
        return cls(path)

    def evaluation_file(self, split: str, which: str) -> Path:
        """The evaluation of a split with the weights of the "last" or the "best" epoch."""
        return self.path / "evaluation" / f"{split}-{which}.json"

    def predictions_file(self, split: str, which: str) -> Path:
        """The logits of a split with the weights of the "last" or the "best" epoch, if they were kept."""
        return self.path / "evaluation" / f"{split}-{which}.safetensors"

    @property
    def is_finished(self) -> bool:
        """Whether all epochs are trained and scored."""
        return self.scores_file.is_file()

    @property
    def evidence(self) -> tuple[Path, ...]:
        """What shows that a run wrote the folder. A recipe alone does not, because a user may copy it anywhere."""
        return self.lock_file, self.data_file, self.metrics_file, self.checkpoints, self.scores_file

    @property
    def is_run(self) -> bool:
        """Whether a run wrote the folder."""
        try:
            if not self.recipe_file.is_file() or not any(file.exists() for file in self.evidence):
                return False
            return {"name", "method", "data", "seed"} <= set(read_recipe(str(self.recipe_file)))
        except (UserError, OSError):
            return False

    @property
    def is_locked(self) -> bool:
        """Whether a process is training here. Also False where the lock cannot be tried, as in a read-only folder."""
        if not self.lock_file.is_file():
            return False
        try:
            with FileLock(self.lock_file, timeout=0):
                return False
        except Timeout:
            return True
        except OSError:
            return False

    def recipe(self, overrides: Mapping[str, Any] | None = None, trust_imports: bool = False) -> Recipe:
        """The run's recipe.

        Args:
            overrides: options of the machine, such as `data.root` where the data has moved, or `loader.workers`.
            trust_imports: let it name `package.module:Name`, whose import runs code.
        Raises: RecipeError: if the file is damaged, or `overrides` holds any other option.
        """
        fixed = {key for key in overrides or {} if not is_of_machine(key)}
        if fixed:
            raise RecipeError(
                f"{', '.join(sorted(fixed))} cannot change in a run that exists; only {', '.join(sorted(MACHINE))} can"
            )
        # A run that has begun needs no file of weights. What follows the weights is as in the beginning.
        used = {key: value for key, value in (overrides or {}).items() if key not in WEIGHTS}
        return resolve(str(self.recipe_file), used, trust_imports)

    def scores(self) -> RunScores:
        """The scores of a finished run. A run of an older version may lack keys.

        Raises: RunError: if the file is damaged.
        """
        return read_scores(self.scores_file)

    def teacher(self) -> TeacherRecord:
        """The record of the run's teacher.

        Raises: RunError: if the file is missing or damaged.
        """
        if not self.teacher_file.exists():
            raise RunError(f"{self.path} does not say which teacher it has: {self.teacher_file.name} is missing")
        return read_teacher(self.teacher_file)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing here. The system releases the lock of a process that is killed.

        Raises: RunError: if another process has locked the folder, or it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.lock_file, timeout=_LOCK_SECONDS)
            lock.acquire()
        except Timeout as error:
            raise RunError(f"another process is training in {self.path}") from error
        except OSError as error:
            raise RunError(f"the run folder {self.path} cannot be written: {error}") from error
        try:
            yield
        finally:
            lock.release()
