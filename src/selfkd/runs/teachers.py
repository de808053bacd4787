"""Load the teacher that a recipe names: a network with its weights and with the normalization of its images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch
from pathlib import Path
from typing import Any

from torch import nn

from selfkd.backbones.pretrained import preprocessing_of, published_classes
from selfkd.contract import Normalization, TeacherRecord
from selfkd.data.sources.base import Source
from selfkd.data.splits import Splits
from selfkd.errors import DataError, RecipeError, RunError, WeightsError, shown
from selfkd.recipes.recipe import Recipe
from selfkd.recipes.teacher_recipes import naming_the_teacher, network_recipe, origin_of, teachers_first
from selfkd.runs.loading import SavedRun
from selfkd.runs.networks import build_network, plain_network, staged_at
from selfkd.runs.run_folder import RunFolder
from selfkd.runs.weights_files import named_as_in, read_weights
from selfkd.teachers.origins import FromFile, FromRecipe, FromRun, FromTimm, Origin
from selfkd.teachers.teacher import Teacher

__all__ = ["load_teacher", "record_at_path", "untrained_teacher"]


@dataclass(frozen=True)
class _Task:
    """What a teacher and its student share: class names in label order, and (channels, height, width) of the images."""

    class_names: tuple[str, ...]
    input_size: tuple[int, int, int]

    @classmethod
    def of(cls, splits: Splits) -> _Task:
        return cls(splits.class_names, splits.train.input_size)

    def check(self, teacher: str, theirs: _Task) -> None:
        """Refuse a teacher of another task than the student's, which this one is. An error calls it `teacher`."""
        self.check_number(teacher, len(theirs.class_names))
        for label, (name, own) in enumerate(zip(theirs.class_names, self.class_names, strict=True)):
            if name != own:
                raise RunError(
                    f"{teacher} has other classes than the student, or in another order: class {label} is "
                    f"{shown(name)} there and {shown(own)} here"
                )
        if theirs.input_size != self.input_size:
            size, own_size = ("x".join(map(str, task.input_size)) for task in (theirs, self))
            raise RunError(f"{teacher} takes images of {size}, the student's are {own_size}")

    def check_number(self, teacher: str, num_classes: int) -> None:
        if num_classes != len(self.class_names):
            raise DataError(
                f"{teacher} has {num_classes} classes, and the student has {len(self.class_names)}; both must have the "
                "same"
            )


def load_teacher(student: Recipe, runs: Path, trust_imports: bool, source: Source, splits: Splits) -> Teacher:
    """Load the teacher that a recipe names.

    Args:
        student: the recipe.
        runs: the folder of all runs. If the teacher is a recipe, its finished run lies there.
        trust_imports: let a teacher's recipe name `package.module:Name`, whose import runs code.
        source: the student's data set, which says how its images are normalised.
        splits: the student's images. The teacher must have the same classes and size of images.
    Raises:
        RunError: if the teacher's run does not exist, is not finished, or has other classes or images.
        CheckpointError: if its run is damaged.
        WeightsError: if its file is damaged or belongs to another network.
        UserError: if its network cannot be built or staged.
    """
    recipe, network = _load(origin_of(student), student, _Task.of(splits), runs, trust_imports)
    return _teacher(network, recipe.build("data"), source, splits)


def record_at_path(run: SavedRun, runs: Path, trust_imports: bool) -> TeacherRecord | None:
    """The record of the teacher that a recipe names by its path; None if there is no path, or nothing lies there.

    Args:
        run: a student's finished run, with the recipe that the user gives now.
        runs, trust_imports: as for `load_teacher`.
    Raises: RunError, CheckpointError, UserError: as `load_teacher`.
    """
    origin = origin_of(run.recipe)
    if not isinstance(origin, FromRun | FromFile) or not _exists(Path(str(origin.path))):
        return None
    _, network = _load(origin, run.recipe, _Task(run.class_names, run.input_size), runs, trust_imports)
    return Teacher(staged_at(network, run.input_size)).record


def untrained_teacher(recipe: Recipe, source: Source, splits: Splits) -> Teacher:
    """Build the teacher of a recipe that is not trained yet, with random weights.

    Args:
        recipe: the teacher's own.
        source: the student's data set.
        splits: the student's images. The teacher must have the same classes and size of images.
    Raises:
        RunError, DataError: if its classes or images are others.
        RecipeError: if its data cannot be read.
        UserError: if its network cannot be built or staged.
    """
    own_source: Source = recipe.build("data")
    with naming_the_teacher():
        own_splits = splits if own_source == source else own_source.load(recipe.seed, whole_images=True)
    _Task.of(splits).check(f"the teacher {recipe.name}", _Task.of(own_splits))
    return _teacher(plain_network(recipe, len(splits.class_names)), own_source, source, splits)


def _teacher(network: Any, own_source: Source, source: Source, splits: Splits) -> Teacher:
    return Teacher(
        staged_at(network, splits.train.input_size),
        Normalization(tuple(own_source.mean), tuple(own_source.std)),
        Normalization(tuple(source.mean), tuple(source.std)),
    )


@singledispatch
def _load(origin: Origin, student: Recipe, task: _Task, runs: Path, trust_imports: bool) -> tuple[Recipe, Any]:
    """Load the teacher's network. Also returns the recipe whose data say how its images are normalised."""
    raise TypeError(f"unknown origin of a teacher: {type(origin).__name__}")


@_load.register
def _from_recipe(
    origin: FromRecipe, student: Recipe, task: _Task, runs: Path, trust_imports: bool
) -> tuple[Recipe, Any]:
    *_, recipe = teachers_first(student, trust_imports)
    return _from_finished(SavedRun(RunFolder.of(recipe, runs), recipe, origin.weights), task)


@_load.register
def _from_run(origin: FromRun, student: Recipe, task: _Task, runs: Path, trust_imports: bool) -> tuple[Recipe, Any]:
    return _from_finished(SavedRun.open(str(origin.path), origin.weights, trust_imports=trust_imports), task)


@_load.register
def _from_file(origin: FromFile, student: Recipe, task: _Task, runs: Path, trust_imports: bool) -> tuple[Recipe, Any]:
    recipe = network_recipe(student, origin)
    network = plain_network(recipe, len(task.class_names))
    path = Path(str(origin.path))
    weights = named_as_in(read_weights(path, "teacher.path"), network.state_dict(), path)
    try:
        network.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise WeightsError(f"{path} cannot be loaded into {type(network).__name__}: {error}") from error
    return recipe, network


@_load.register
def _from_timm(origin: FromTimm, student: Recipe, task: _Task, runs: Path, trust_imports: bool) -> tuple[Recipe, Any]:
    recipe = network_recipe(student, origin)
    name, side = recipe.parts["backbone"], task.input_size[-1]
    published, num_classes = preprocessing_of(name), published_classes(name)
    if published is None or num_classes is None:
        raise RecipeError(
            f"teacher.backbone={shown(name)} has no published weights; teacher=timm needs a timm network that has some"
        )
    task.check_number(f"the teacher {name}", num_classes)
    if published.side != side:
        raise DataError(
            f"the weights of {name} are for images of {published.side}x{published.side} pixels, the student's are "
            f"{side}x{side}; they must be equal: set data.image_size={published.side}"
        )
    return recipe, build_network(recipe, num_classes, pretrained=True)


def _from_finished(run: SavedRun, task: _Task) -> tuple[Recipe, nn.Module]:
    path = run.folder.path
    if not run.folder.is_finished:
        raise RunError(f"the teacher {path} is not finished; continue it with the command that started it")
    task.check(f"the teacher {path}", _Task(run.class_names, run.input_size))
    network, _ = run.network()
    return run.recipe, network


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a folder above it must not be read
        return False
