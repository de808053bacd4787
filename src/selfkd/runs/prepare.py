"""Prepare a run's folder for training: check that it holds nothing else than this run, and write what identifies it."""

from __future__ import annotations

import logging

from selfkd.contract import DatasetInfo, TeacherRecord
from selfkd.data.splits import Splits
from selfkd.errors import RunError
from selfkd.recipes.files import read_recipe
from selfkd.recipes.reader import resolve
from selfkd.recipes.recipe import Recipe, differences
from selfkd.runs.data_record import read_fingerprint, read_version, write_data_record
from selfkd.runs.environment import package_version
from selfkd.runs.overwrite import clear
from selfkd.runs.records import write_teacher, write_text
from selfkd.runs.run_folder import RunFolder
from selfkd.training.checkpoint_files import has_checkpoints

__all__ = ["check_data", "check_recipe", "check_teacher", "prepare", "trained_on"]

_UNKNOWN = "of an unknown version"
_ADVICE = "give this one a name= of its own, or --overwrite the old one"

_log = logging.getLogger("selfkd")


def prepare(
    folder: RunFolder,
    recipe: Recipe,
    splits: Splits,
    dataset: DatasetInfo,
    overwrite: bool,
    teacher: TeacherRecord | None = None,
) -> None:
    """Make the folder ready to begin or to continue a run. The caller has locked it.

    Args:
        folder: of the run.
        recipe: what will be trained.
        splits: its data.
        dataset: the description of the training set that the method gets.
        overwrite: delete the run that is there.
        teacher: the record of the teacher, if there is one.
    Raises:
        RunError: if the folder holds another experiment, or a run with other data or another teacher, or if it cannot
            be emptied.
        StorageError: if a file cannot be written.
    """
    if overwrite:
        clear(folder)
    check_recipe(folder, recipe)
    check_data(folder, recipe, splits)
    if teacher is not None:
        check_teacher(folder, teacher)
    if not folder.recipe_file.exists():
        write_text(folder.recipe_file, recipe.to_yaml())
    write_data_record(folder, splits.fingerprint(), dataset, _version_at_start(folder))
    if teacher is not None:
        write_teacher(folder.teacher_file, teacher)


def _version_at_start(folder: RunFolder) -> str | None:
    """The version of selfkd that began the run. The log says so if another version continues it."""
    now = package_version("selfkd")
    if not has_checkpoints(folder.checkpoints):
        return now
    began = read_version(folder)
    if began != now:
        _log.info("%s was begun by selfkd %s; selfkd %s continues it", folder.path, began or _UNKNOWN, now or _UNKNOWN)
    return began


def check_recipe(folder: RunFolder, recipe: Recipe) -> None:
    """Refuse a folder that holds the run of another recipe.

    Raises: RunError: naming what differs.
    """
    path = folder.path
    if not folder.recipe_file.exists():
        if has_checkpoints(folder.checkpoints):
            raise RunError(f"{path} holds a checkpoint without its {folder.recipe_file.name}; {_ADVICE}")
        return
    stored = read_recipe(str(folder.recipe_file))
    if all(stored.get(section) == part for section, part in recipe.parts.items()):
        # Resolved, it also has the options that are newer than the file. Its parts are those that `recipe` imported.
        stored = resolve(str(folder.recipe_file), trust_imports=True).flat()
    different = differences(stored, recipe.flat())
    if len(different) == 1 and different[0].startswith("trainer.epochs:"):
        raise RunError(
            f"{path} is a run of another length ({different[0]}), which cannot be changed: the learning rate and the "
            f"method's decays depend on the number of all epochs, so that a longer run is not a shorter one continued; "
            f"{_ADVICE}"
        )
    if different:
        raise RunError(f"{path} holds another experiment ({'; '.join(different)}); {_ADVICE}")


def trained_on(folder: RunFolder, splits: Splits) -> bool:
    """Whether a run was trained on this data; True where its folder does not say.

    Raises:
        RunError: if the run's record of its data is damaged.
        DataError: if a newer version wrote the record, or a file of the data is gone.
    """
    fingerprint = read_fingerprint(folder)
    return fingerprint is None or splits.matches(fingerprint)


def check_data(folder: RunFolder, recipe: Recipe, splits: Splits) -> None:
    """Refuse data that the run in the folder was not trained on.

    Args:
        folder: of the run.
        recipe: whose data it is.
        splits: the data.
    Raises: RunError, DataError: as `trained_on`, and if it is other data.
    """
    if not trained_on(folder, splits):
        data = recipe.parts["data"]
        raise RunError(f"{folder.path} was trained on other data than data={data} gives now; {_ADVICE}")


def check_teacher(folder: RunFolder, teacher: TeacherRecord) -> None:
    """Refuse a teacher that the run in the folder does not learn from.

    Raises: RunError: if it is another one, or if the run has begun and its record of the teacher is missing or damaged.
    """
    if not (folder.teacher_file.exists() or has_checkpoints(folder.checkpoints)):
        return
    checksum = folder.teacher().checksum
    if checksum != teacher.checksum:
        raise RunError(
            f"{folder.path} learns from another teacher: the checksum of its weights is {checksum[:12]} there, "
            f"{teacher.checksum[:12]} now; {_ADVICE}"
        )
