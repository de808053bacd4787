"""Check that a run's folder holds nothing else than this run, and write what identifies the run."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from pathlib import Path

from selfkd.contract import TeacherRecord
from selfkd.data.sources.base import Source
from selfkd.data.splits import Splits
from selfkd.errors import RunError
from selfkd.recipes.files import read_recipe
from selfkd.recipes.reader import resolve
from selfkd.recipes.recipe import Recipe, differences
from selfkd.runs.build import Experiment
from selfkd.runs.data_record import read_version, trained_on, write_data_record
from selfkd.runs.environment import package_version
from selfkd.runs.loading import MORE_MEMORY, SavedRun
from selfkd.runs.overwrite import clear
from selfkd.runs.records import read_record, write_json, write_text
from selfkd.runs.run_folder import RunFolder
from selfkd.runs.starting_weights import checksums, starting_weights
from selfkd.runs.teachers import record_at_path
from selfkd.training.checkpoint_names import has_checkpoints
from selfkd.training.memory import memory_for

__all__ = ["as_begun", "check_finished", "check_recipe", "prepare"]

_UNKNOWN = "of an unknown version"
_ADVICE = "give the new run a name= of its own, or replace the old one with 'selfkd train ... --overwrite'"

_OBJECT = "dataset"  # the data set of a Dataset object that a Python caller passed

_log = logging.getLogger("selfkd")


def prepare(folder: RunFolder, experiment: Experiment, overwrite: bool) -> None:
    """Make the folder ready to begin or to continue a run. The caller has locked it.

    Args:
        folder: the run's folder.
        experiment: what will be trained.
        overwrite: delete the run that is there.
    Raises:
        RunError: if the folder holds another experiment, or a run with other data or another teacher, or if it cannot
            be emptied.
        StorageError: if a file cannot be written.
    """
    recipe, splits, method = experiment.recipe, experiment.splits, experiment.method
    teacher = method.teacher.record if method.needs.teacher else None
    weights = None
    if overwrite or not folder.weights_file.exists():
        weights = starting_weights(recipe, method.networks)  # before the run is deleted that may hold one of the files
    if overwrite:
        clear(folder)
    check_recipe(folder, recipe)
    _check_data(folder, recipe, splits)
    if teacher is not None:
        _check_teacher(folder, teacher)
    if weights:
        write_json(folder.weights_file, weights)
    if not folder.recipe_file.exists():
        write_text(folder.recipe_file, recipe.to_yaml())
    write_data_record(folder, splits, experiment.dataset, _version_at_start(folder))
    if teacher is not None:
        write_json(folder.teacher_file, asdict(teacher))


def as_begun(folder: RunFolder, recipe: Recipe) -> Recipe:
    """The recipe with what its run knows since it began, where a file of weights is gone.

    Args:
        folder: the run's folder.
        recipe: the run's recipe, as the user gives it now.
    """
    if not recipe.undecided or not folder.recipe_file.exists():
        return recipe
    stored = read_recipe(str(folder.recipe_file))
    options = {section: dict(values) for section, values in recipe.options.items()}
    for key in recipe.undecided:
        section, _, option = key.partition(".")
        value = stored.get(key, options[section][option])
        options[section][option] = tuple(value) if isinstance(value, list) else value
    return replace(recipe, options=options, undecided=frozenset())


def check_recipe(folder: RunFolder, recipe: Recipe) -> None:
    """Refuse a folder that holds the run of another recipe, or one that started from other weights.

    Raises: RunError: naming what differs.
    """
    path = folder.path
    _check_weights(folder, recipe)
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
    if stored.get("data") == _OBJECT != recipe.parts["data"]:
        raise RunError(
            f"{path} was trained on a Dataset object ({'; '.join(different)}); to continue or repeat that run, pass "
            "the object again: selfkd.train(RECIPE, data=DATASET). Otherwise give the new run a name= of its own"
        )
    if different:
        raise RunError(f"{path} holds another experiment ({'; '.join(different)}); {_ADVICE}")


def check_finished(folder: RunFolder, recipe: Recipe, runs: Path, trust_imports: bool) -> None:
    """Keep a finished run: write its network file again if it is lost, and check data and teacher.

    Data and teacher are checked only if the recipe says where they lie, or a Python caller gave the data.

    Args:
        folder: the finished run's folder.
        recipe: the run's recipe, as the user gives it now.
        runs, trust_imports: as for `load_teacher`.
    Raises:
        RunError: if data or teacher are not those of the run.
        DataError: if the data cannot be read.
        CheckpointError: if the teacher is damaged.
    """
    if recipe.options["data"].get("root") is not None or "data" in recipe.given:
        source: Source = recipe.build("data")
        with memory_for("reading the data", "the run is finished; without data.root its data is not checked"):
            _check_data(folder, recipe, source.load(recipe.seed, whole_images=True))
    saved = SavedRun(folder, recipe)
    if (path := recipe.options.get("teacher", {}).get("path")) is not None:
        with memory_for("loading the teacher", MORE_MEMORY):
            teacher = record_at_path(saved, runs, trust_imports)
        if teacher is None:
            _log.info("the teacher %s is gone, so it is not checked against that of %s", path, folder.path)
        else:
            _check_teacher(folder, teacher)
    saved.restore_network_file()


def _check_data(folder: RunFolder, recipe: Recipe, splits: Splits) -> None:
    if not trained_on(folder, splits):
        data = recipe.parts["data"]
        raise RunError(f"{folder.path} was trained on other data than data={data} gives now; {_ADVICE}")


def _check_teacher(folder: RunFolder, teacher: TeacherRecord) -> None:
    if not (folder.teacher_file.exists() or has_checkpoints(folder.checkpoints)):
        return
    checksum = folder.teacher().checksum
    if checksum != teacher.checksum:
        raise RunError(
            f"{folder.path} learns from another teacher: the checksum of its weights is {checksum[:12]} there, "
            f"{teacher.checksum[:12]} now; {_ADVICE}"
        )


def _check_weights(folder: RunFolder, recipe: Recipe) -> None:
    """Refuse other files of weights than those that the run started from. A file that is gone is not checked."""
    if not (folder.weights_file.exists() or has_checkpoints(folder.checkpoints)):
        return
    before = read_record(folder.weights_file) if folder.weights_file.exists() else {}
    now = checksums(recipe)
    for section in dict.fromkeys((*before, *now)):
        file, new = recipe.file_of_weights(section), now.get(section)
        old = before[section].get("sha256") if section in before else None
        if old is None and file is not None:
            raise RunError(f"{folder.path} began without {section}.weights={file}; {_ADVICE}")
        if file is None:
            raise RunError(f"{folder.path} began with a file of weights, and {section}.weights is not given; {_ADVICE}")
        if new is not None and new != old:
            raise RunError(
                f"{folder.path} started from another file than {section}.weights={file}: its SHA-256 is "
                f"{str(old)[:12]} there, {new[:12]} now; {_ADVICE}"
            )


def _version_at_start(folder: RunFolder) -> str | None:
    """The version of selfkd that began the run. The log says so if another version continues it."""
    now = package_version("selfkd")
    if not has_checkpoints(folder.checkpoints):
        return now
    began = read_version(folder)
    if began != now:
        _log.info("%s was begun by selfkd %s; selfkd %s continues it", folder.path, began or _UNKNOWN, now or _UNKNOWN)
    return began
