"""A run's folder: everything needed to check, resume, compare or ship the result."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from selfkd.contract import DatasetInfo, TeacherRecord
from selfkd.data.splits import Splits
from selfkd.errors import RecipeError, RunError, UserError, few
from selfkd.given_paths import RECIPE_FILE, check_run
from selfkd.recipes.files import read_recipe
from selfkd.recipes.reader import resolve
from selfkd.recipes.recipe import MACHINE, Recipe, differences, is_of_machine
from selfkd.runs.records import (
    RunScores,
    class_names_noted,
    data_record,
    dataset_noted,
    images_trained_on,
    read_record,
    read_scores,
    read_teacher,
    write_json,
    write_teacher,
    write_text,
)
from selfkd.training.checkpoint_files import (
    checksum,
    has_checkpoints,
    is_checkpoint_file,
    is_checkpoint_name,
    keep_newest,
)

__all__ = ["RunFolder"]


_ADVICE = "give this one a name= of its own, or --overwrite the old one"
# What a run leaves in its folder, each also as .partial, where a kill broke off its writing.
_WRITTEN = re.compile(
    r"(\.lock|recipe\.yaml|data\.json|teacher\.json|metrics\.csv|model\.safetensors|checksums\.json|scores\.json|environment\.json"
    r"|checkpoints/best\.ckpt|tensorboard/events\.out\.tfevents\..*|tensorboard/hparams\.yaml"
    r"|export/(last|best)\.safetensors)(\.partial)?"
)
_FOLDERS = ("checkpoints", "tensorboard", "export")


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run, `<runs>/<recipe>[+overrides]/seed-<n>/`."""

    path: Path

    @classmethod
    def of(cls, recipe: Recipe, runs: Path) -> RunFolder:
        """Where this recipe's run lies."""
        return cls(runs / recipe.name / f"seed-{recipe.seed}")

    @classmethod
    def existing(cls, path: Path) -> RunFolder:
        """A run that has begun, finished or not.

        Raises: RunError: if there is no such run.
        """
        check_run(path)
        return cls(path)

    @property
    def is_finished(self) -> bool:
        """Whether all epochs are trained and scored."""
        return self.scores_file.is_file()

    @property
    def recipe_file(self) -> Path:
        """The resolved recipe."""
        return self.path / RECIPE_FILE

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
        """Of the data that the run was trained on: its fingerprint, and what its method was told of it."""
        return self.path / "data.json"

    @property
    def teacher_file(self) -> Path:
        """What is known of the teacher that the run learns from, its checksum among it; of runs that have one."""
        return self.path / "teacher.json"

    @property
    def metrics_file(self) -> Path:
        """One row per epoch."""
        return self.path / "metrics.csv"

    @property
    def network_file(self) -> Path:
        """The plain network."""
        return self.path / "model.safetensors"

    @property
    def checksums_file(self) -> Path:
        """Size and CRC-32 of the plain network's file."""
        return self.path / "checksums.json"

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
        others = {key for key in places or {} if not is_of_machine(key)}
        if others:
            raise RecipeError(
                f"{', '.join(sorted(others))} cannot change in a run that exists; only {', '.join(sorted(MACHINE))} can"
            )
        return resolve(str(self.recipe_file), places, trust_imports)

    def scores(self) -> RunScores:
        """The stored scores; of older runs, keys that are newer may be missing.

        Raises: RunError: if the file is damaged.
        """
        return read_scores(self.scores_file)

    def class_names(self) -> tuple[str, ...]:
        """The names of the classes in label order, from the first file that gives them.

        Raises: RunError: if none does, since they are not noted, or a file is damaged.
        """
        names = self.noted_class_names()
        if names is None:
            raise RunError(
                f"the run {self.path} does not say yet which classes it has; the command that started it continues it"
            )
        return names

    def noted_class_names(self) -> tuple[str, ...] | None:
        """The names of the classes in label order; None in what an older version left unfinished, which has no note.

        Raises: RunError: if a file is damaged, and no other has them.
        """
        damage: RunError | None = None
        for file in (self.data_file, self.scores_file):  # older runs note them at their end
            try:
                names = class_names_noted(file) if file.exists() else None
                if names is not None:
                    return names
            except RunError as error:
                damage = damage or error
        if damage is not None:
            raise damage
        return None

    def dataset(self, input_size: tuple[int, int, int]) -> DatasetInfo | None:
        """What the run's method was told of its training set, from which it can be built without the data.

        Where that is not noted, or the note is damaged, the scores of a finished run say it, but for the labels. None
        in what an older version left unfinished.

        Args:
            input_size: (channels, height, width) of the images of the run's recipe, which older runs do not note.
        Raises: RunError: if a file is damaged, and no other has it.
        """
        names = self.noted_class_names()
        if names is None:
            return None
        try:
            noted = read_record(self.data_file)
            if "num_samples" in noted:
                return dataset_noted(self.data_file, noted, names, input_size)
        except RunError:
            if not self.is_finished:
                raise
        images = images_trained_on(self.scores_file, self.scores()) if self.is_finished else None
        return None if images is None else DatasetInfo(images, len(names), names, input_size=input_size)

    def fault_of_network_file(self) -> str | None:
        """What is wrong with the plain network's file, or with its checksum, in words, or None."""
        for file in (self.network_file, self.checksums_file):
            if not file.is_file():
                return f"{file} is {'no file' if file.exists() else 'missing'}"
        try:
            changed = read_record(self.checksums_file).get(self.network_file.name) != checksum(self.network_file)
        except (RunError, OSError) as error:
            return str(error)
        return f"{self.network_file} is damaged, or another run's" if changed else None

    def note_network_file(self) -> None:
        """Note the checksum of the plain network's file.

        Raises: StorageError: if it cannot be written.
        """
        write_json(self.checksums_file, {self.network_file.name: checksum(self.network_file)})

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
            if has_checkpoints(self.checkpoints):
                raise RunError(f"{self.path} holds a checkpoint without its {self.recipe_file.name}; {_ADVICE}")
            return
        stored = read_recipe(str(self.recipe_file))
        if all(stored.get(section) == part for section, part in recipe.parts.items()):
            # Resolved, it has options that are newer than the file; the parts are those already imported for `recipe`.
            stored = resolve(str(self.recipe_file), trust_imports=True).flat()
        different = differences(stored, recipe.flat())
        if len(different) == 1 and different[0].startswith("trainer.epochs:"):
            raise RunError(
                f"{self.path} is a run of another length ({different[0]}), which cannot be changed: the learning rate "
                "and the method's decays depend on the number of all epochs, so that a longer run is not a shorter one "
                f"continued; {_ADVICE}"
            )
        if different:
            raise RunError(f"{self.path} holds another experiment ({'; '.join(different)}); {_ADVICE}")

    def holds_data(self, splits: Splits) -> bool:
        """Whether the run was trained on this data; True where that was not noted.

        Raises:
            RunError: if the note is damaged.
            DataError: if the note is a newer version's, or a file of the data is gone.
        """
        if not self.data_file.exists():
            return True
        noted = read_record(self.data_file)
        if "fingerprint" not in noted:
            raise RunError(f"{self.data_file} is damaged: it holds no fingerprint")
        return splits.matches(noted["fingerprint"])

    def check_data(self, recipe: Recipe, splits: Splits) -> None:
        """Refuse data that the run in this folder was not trained on.

        Args:
            recipe: which asks for the data.
            splits: the data.
        Raises: RunError, DataError: as `holds_data`, and if it is other data.
        """
        if not self.holds_data(splits):
            data = recipe.parts["data"]
            raise RunError(f"{self.path} was trained on other data than data={data} gives now; {_ADVICE}")

    def teacher(self) -> TeacherRecord:
        """What is known of the teacher that the run learns from.

        Raises: RunError: if that was not noted, or the note is damaged.
        """
        if not self.teacher_file.exists():
            raise RunError(f"{self.path} does not say which teacher it has: {self.teacher_file.name} is missing")
        return read_teacher(self.teacher_file)

    def check_teacher(self, teacher: TeacherRecord) -> None:
        """Refuse a teacher that the run in this folder does not learn from.

        Raises: RunError: if it is another one, or that was not noted and the run has begun, or the note is damaged.
        """
        if not (self.teacher_file.exists() or has_checkpoints(self.checkpoints)):
            return
        there = self.teacher().checksum
        if there != teacher.checksum:
            raise RunError(
                f"{self.path} learns from another teacher: the checksum of its weights is {there[:12]} there, "
                f"{teacher.checksum[:12]} now; {_ADVICE}"
            )

    def prepare(
        self,
        recipe: Recipe,
        splits: Splits,
        told: DatasetInfo,
        overwrite: bool,
        teacher: TeacherRecord | None = None,
    ) -> None:
        """Make the folder ready to start or to continue this recipe on this data; call it locked.

        Args:
            recipe: what will be trained.
            splits: its data.
            told: what the method must be told of it to be built again.
            overwrite: delete what an earlier run left here.
            teacher: that it learns from.
        Raises:
            RunError: if the folder holds another experiment or other things than a run's, has other data or another
                teacher, or cannot be emptied.
            StorageError: if it cannot be written.
        """
        try:
            if overwrite:
                self._clear()
        except OSError as error:
            raise RunError(f"the run folder {self.path} cannot be emptied: {error}") from error
        self.check(recipe)
        self.check_data(recipe, splits)
        if teacher is not None:
            self.check_teacher(teacher)
        if not self.recipe_file.exists():
            write_text(self.recipe_file, recipe.to_yaml())
        write_json(self.data_file, data_record(splits.fingerprint(), told))
        if teacher is not None:
            write_teacher(self.teacher_file, teacher)

    def check_overwritable(self) -> None:
        """Refuse to overwrite anything but a run: only what a run wrote may be deleted.

        Raises: RunError: naming what is in the way.
        """
        if self.path.is_symlink():
            raise RunError(
                f"{self.path} is a link to {self.path.readlink()}; --overwrite deletes nothing behind a link: "
                "remove the link, or give this run a name= of its own"
            )
        try:
            written, foreign = self._contents()
        except OSError as error:
            raise RunError(f"the run folder {self.path} cannot be read: {error}") from error
        if foreign:
            raise RunError(
                f"{self.path} holds what no run writes: {few(foreign)}; --overwrite deletes only a run's own files: "
                "move the others away, or give this run a name= of its own"
            )
        if set(written) - {self.path / ".lock"} and not (self.is_run or has_checkpoints(self.checkpoints)):
            raise RunError(
                f"{self.path} holds no {self.recipe_file.name} of a run, so --overwrite deletes nothing there: "
                "remove the folder yourself, or give this run a name= of its own"
            )

    @property
    def is_run(self) -> bool:
        """Whether a run wrote the folder: it holds a resolved recipe, which may lie anywhere, and more of a run."""
        traces = (self.path / ".lock", self.data_file, self.metrics_file, self.checkpoints, self.scores_file)
        try:
            if not self.recipe_file.is_file() or not any(trace.exists() for trace in traces):
                return False
            return {"name", "method", "data", "seed"} <= set(read_recipe(str(self.recipe_file)))
        except (UserError, OSError):
            return False

    def _contents(self) -> tuple[list[Path], list[str]]:
        """What a run wrote, folders after what is in them; and the names of what it did not."""
        written: list[Path] = []
        foreign: list[str] = []

        def look(folder: Path) -> None:
            for entry in sorted(folder.iterdir()):
                name = entry.relative_to(self.path).as_posix()
                if entry.is_dir() and not entry.is_symlink() and _is_folder_of_a_run(name):
                    look(entry)
                    written.append(entry)
                elif entry.is_file() and not entry.is_symlink() and _is_file_of_a_run(name):
                    written.append(entry)
                else:
                    foreign.append(name)

        if self.path.is_dir():
            look(self.path)
        return written, foreign

    def _clear(self) -> None:
        """Remove what an earlier run wrote; broken off, what is left is an unfinished run of the old recipe."""
        self.check_overwritable()
        self.scores_file.unlink(missing_ok=True)
        keep_newest(self.checkpoints, 0)  # in an order that leaves no set half removed
        written, _ = self._contents()
        for entry in written:
            if entry in (self.recipe_file, self.path / ".lock"):
                continue
            if entry.is_dir():
                entry.rmdir()
            else:
                entry.unlink()
        self.recipe_file.unlink(missing_ok=True)


def _is_folder_of_a_run(name: str) -> bool:
    parent, _, last = name.rpartition("/")
    return name in _FOLDERS or (parent == "checkpoints" and is_checkpoint_name(last.removesuffix(".partial")))


def _is_file_of_a_run(name: str) -> bool:
    parent, _, last = name.rpartition("/")
    in_set = _is_folder_of_a_run(parent) and parent.startswith("checkpoints/") and is_checkpoint_file(last)
    return in_set or _WRITTEN.fullmatch(name) is not None
