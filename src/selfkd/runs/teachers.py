"""A run's teacher: from wherever its recipe says, with its weights and its images' normalization."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from selfkd.backbones.pretrained import preprocessing_of, published_classes
from selfkd.contract import Normalization, TeacherRecord
from selfkd.data.sources.base import Source
from selfkd.data.splits import Splits
from selfkd.errors import CheckpointError, DataError, OptionError, RecipeError, RunError, first_line, shown
from selfkd.export.network_files import SUFFIX, load_network
from selfkd.given_paths import check_path
from selfkd.recipes.recipe import Recipe
from selfkd.recipes.teacher_recipes import naming_the_teacher, network_recipe, origin_of, teachers_first
from selfkd.runs.building import build_source
from selfkd.runs.loading import SavedRun
from selfkd.runs.networks import build_network, plain_network, staged_at
from selfkd.runs.run_folder import RunFolder
from selfkd.teachers.origins import FromFile, FromRecipe, FromRun, FromTimm, Origin
from selfkd.teachers.teacher import Teacher
from selfkd.training.memory import is_out_of_memory

__all__ = ["load_teacher", "record_at_hand", "untrained_teacher"]

_SAVED_RIGHT = "a teacher's file is what torch.save(network.state_dict(), file) writes, or *.safetensors"


@dataclass(frozen=True)
class _Student:
    """Whom a teacher must suit: its recipe, its K classes in label order, and the (C, H, W) of its images."""

    recipe: Recipe
    class_names: tuple[str, ...]
    input_size: tuple[int, int, int]


def load_teacher(student: Recipe, runs: Path, trust_imports: bool, source: Source, splits: Splits) -> Teacher:
    """The teacher that a recipe names.

    Args:
        student: the recipe.
        runs: the folder of all runs, where the run of a teacher's recipe lies, finished.
        trust_imports: let a teacher's recipe name `package.module:Name`, whose import runs code.
        source: the student's data set, which says how its images are normalised.
        splits: the student's images, whose size and classes the teacher must share.
    Raises:
        RunError: if there is no such run, it is not finished, or its classes or images are others.
        CheckpointError: if its weights are damaged or of another network.
        UserError: if its network cannot be built or staged.
    """
    needed = _Student(student, splits.class_names, splits.train.input_size)
    recipe, network = _network(origin_of(student), needed, runs, trust_imports)
    return _teacher(network, build_source(recipe), source, splits)


def record_at_hand(run: SavedRun, runs: Path, trust_imports: bool) -> TeacherRecord | None:
    """The record of the teacher that a recipe names by its path; None if nothing lies there.

    Args:
        run: a student's finished run, with the recipe that asks for it now.
        runs, trust_imports: as for `load_teacher`.
    Raises: RunError, CheckpointError, UserError: as `load_teacher`.
    """
    origin = origin_of(run.recipe)
    if not isinstance(origin, FromRun | FromFile) or not _is_there(Path(str(origin.path))):
        return None
    needed = _Student(run.recipe, run.class_names, run.input_size)
    _, network = _network(origin, needed, runs, trust_imports)
    return Teacher(staged_at(network, run.input_size)).record


def untrained_teacher(recipe: Recipe, source: Source, splits: Splits) -> Teacher:
    """The teacher of a recipe that is still to be trained: all but its weights is known.

    Args:
        recipe: the teacher's own.
        source: the student's data set.
        splits: the student's images, whose size and classes the teacher must share.
    Raises:
        RunError, DataError: if its classes or images are others.
        RecipeError: if its data cannot be read.
        UserError: if its network cannot be built or staged.
    """
    own = build_source(recipe)
    with naming_the_teacher():
        theirs = splits if own == source else own.load(recipe.seed, whole_images=True)
    needed = (splits.class_names, splits.train.input_size)
    _check_fits(f"the teacher {recipe.name}", (theirs.class_names, theirs.train.input_size), needed)
    return _teacher(plain_network(recipe, len(splits.class_names)), own, source, splits)


def _teacher(network: Any, own: Source, source: Source, splits: Splits) -> Teacher:
    return Teacher(
        staged_at(network, splits.train.input_size),
        Normalization(tuple(own.mean), tuple(own.std)),
        Normalization(tuple(source.mean), tuple(source.std)),
    )


@singledispatch
def _network(origin: Origin, student: _Student, runs: Path, trust_imports: bool) -> tuple[Recipe, Any]:
    """The teacher's network with its weights, and the recipe whose data say how its images are normalised."""
    raise TypeError(f"unknown origin of a teacher: {type(origin).__name__}")


@_network.register
def _of_recipe(origin: FromRecipe, student: _Student, runs: Path, trust_imports: bool) -> tuple[Recipe, Any]:
    *_, recipe = teachers_first(student.recipe, trust_imports)
    return _trained(SavedRun(RunFolder.of(recipe, runs), recipe, origin.weights), student)


@_network.register
def _of_run(origin: FromRun, student: _Student, runs: Path, trust_imports: bool) -> tuple[Recipe, Any]:
    return _trained(SavedRun.open(str(origin.path), origin.weights, trust_imports=trust_imports), student)


@_network.register
def _of_file(origin: FromFile, student: _Student, runs: Path, trust_imports: bool) -> tuple[Recipe, Any]:
    recipe = network_recipe(student.recipe, origin)
    network = plain_network(recipe, len(student.class_names))
    path = Path(str(origin.path))
    check_path(path)
    if not _is_there(path) or path.is_dir():
        raise OptionError("teacher.path", str(path), "a file of weights that exists")
    if path.suffix == SUFFIX:
        load_network(network, path)
    else:
        _load_state_dict(network, path)
    return recipe, network


@_network.register
def _of_timm(origin: FromTimm, student: _Student, runs: Path, trust_imports: bool) -> tuple[Recipe, Any]:
    recipe = network_recipe(student.recipe, origin)
    name, side = recipe.parts["backbone"], student.input_size[-1]
    published, classes = preprocessing_of(name), published_classes(name)
    if published is None or classes is None:
        raise RecipeError(
            f"teacher.backbone={shown(name)} has no published weights; teacher=timm needs a network of timm that has"
        )
    if classes != len(student.class_names):
        raise _other_classes(f"the weights of {name}", classes, len(student.class_names))
    if published.side != side:
        raise DataError(
            f"the weights of {name} are for images of {published.side}x{published.side} pixels, the student's are "
            f"{side}x{side}; they must be equal: data.image_size={published.side}"
        )
    return recipe, build_network(recipe, classes, fresh=True)


def _trained(run: SavedRun, student: _Student) -> tuple[Recipe, nn.Module]:
    """The network of a finished run whose classes and images are the student's."""
    folder = run.folder
    if not folder.is_finished:
        raise RunError(f"the teacher {folder.path} is not finished; the command that started it continues it")
    needed = (student.class_names, student.input_size)
    _check_fits(f"the teacher {folder.path}", (run.class_names, run.input_size), needed)
    network, _ = run.network()
    return run.recipe, network


def _check_fits(
    whose: str,
    own: tuple[tuple[str, ...], tuple[int, int, int]],
    needed: tuple[tuple[str, ...], tuple[int, int, int]],
) -> None:
    """Refuse a teacher whose classes, or whose (channels, height, width) of images, are not the student's.

    Raises: DataError, RunError: naming both.
    """
    (classes, size), (needed_classes, needed_size) = own, needed
    if len(classes) != len(needed_classes):
        raise _other_classes(whose, len(classes), len(needed_classes))
    if classes != needed_classes:
        number, (theirs, ours) = _first_difference(classes, needed_classes)
        raise RunError(
            f"{whose} has other classes than the student, or in another order: class {number} is {shown(theirs)} there "
            f"and {shown(ours)} here"
        )
    if size != needed_size:
        raise RunError(f"{whose} takes images of {_shown_size(size)}, the student's are {_shown_size(needed_size)}")


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a folder above it must not be looked into
        return False


def _load_state_dict(network: nn.Module, path: Path) -> None:
    """Load a file that `torch.save(network.state_dict(), path)` wrote, without unpickling code.

    Raises: CheckpointError: if the file is damaged, or its keys and shapes are not exactly the network's.
    """
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({first_line(error)})") from error
    except Exception as error:  # torch's reader fails in any way on a file that was made up, and advises to trust it
        if is_out_of_memory(error):
            raise
        raise CheckpointError(f"{path} is damaged or holds more than tensors; {_SAVED_RIGHT}") from error
    named = isinstance(weights, dict) and all(isinstance(key, str) for key in weights)
    if not named or not all(isinstance(value, Tensor) for value in weights.values()):
        raise CheckpointError(f"{path} is no state dict; {_SAVED_RIGHT}")
    try:
        network.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise CheckpointError(f"{path} cannot be loaded into {type(network).__name__}: {error}") from error


def _other_classes(whose: str, classes: int, needed: int) -> DataError:
    return DataError(f"{whose}: {classes} classes; the student has {needed}. Teacher and student must have the same")


def _first_difference(own: Sequence[str], needed: Sequence[str]) -> tuple[int, tuple[str, str]]:
    return next((number, pair) for number, pair in enumerate(zip(own, needed, strict=True)) if pair[0] != pair[1])


def _shown_size(size: tuple[int, int, int]) -> str:
    return "x".join(map(str, size))
