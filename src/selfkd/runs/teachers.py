"""A run's teacher: from wherever its recipe says, with its weights and its images' normalization."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from functools import singledispatch
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from selfkd.backbones.pretrained import preprocessing_of, published_classes
from selfkd.contract import Normalization
from selfkd.data.source import Source, Splits
from selfkd.errors import CheckpointError, DataError, RecipeError, RunError, first_line, shown
from selfkd.export.network_files import SUFFIX, load_network
from selfkd.given_paths import check_path
from selfkd.recipes.reader import Recipe
from selfkd.recipes.teacher_recipes import network_recipe, origin_of, teachers_first
from selfkd.runs.building import build_source
from selfkd.runs.loading import SavedRun
from selfkd.runs.networks import build_network, plain_network, staged_at
from selfkd.runs.run_folder import RunFolder
from selfkd.teachers.origins import FromFile, FromRecipe, FromRun, FromTimm, Origin
from selfkd.teachers.teacher import Teacher

__all__ = ["load_teacher", "untrained_teacher"]


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
    recipe, network = _network(origin_of(student), student, runs, splits, trust_imports)
    return _teacher(recipe, network, source, splits)


def untrained_teacher(recipe: Recipe, source: Source, splits: Splits) -> Teacher:
    """The teacher of a recipe that is still to be trained: all but its weights is known.

    Args:
        recipe: the teacher's own.
        source: the student's data set.
        splits: the student's images.
    Raises: UserError: if its network cannot be built or staged.
    """
    return _teacher(recipe, plain_network(recipe, len(splits.class_names)), source, splits)


def _teacher(recipe: Recipe, network: Any, source: Source, splits: Splits) -> Teacher:
    own = build_source(recipe)
    return Teacher(
        staged_at(network, splits.train.input_size),
        Normalization(tuple(own.mean), tuple(own.std)),
        Normalization(tuple(source.mean), tuple(source.std)),
    )


@singledispatch
def _network(origin: Origin, student: Recipe, runs: Path, splits: Splits, trust_imports: bool) -> tuple[Recipe, Any]:
    """The teacher's network with its weights, and the recipe whose data say how its images are normalised."""
    raise TypeError(f"unknown origin of a teacher: {type(origin).__name__}")


@_network.register
def _of_recipe(
    origin: FromRecipe, student: Recipe, runs: Path, splits: Splits, trust_imports: bool
) -> tuple[Recipe, Any]:
    *_, recipe = teachers_first(student, trust_imports)
    return _trained(SavedRun(RunFolder.of(recipe, runs), recipe, origin.weights), splits)


@_network.register
def _of_run(origin: FromRun, student: Recipe, runs: Path, splits: Splits, trust_imports: bool) -> tuple[Recipe, Any]:
    return _trained(SavedRun.open(str(origin.path), origin.weights, trust_imports=trust_imports), splits)


@_network.register
def _of_file(origin: FromFile, student: Recipe, runs: Path, splits: Splits, trust_imports: bool) -> tuple[Recipe, Any]:
    recipe = network_recipe(student, origin)
    network = plain_network(recipe, len(splits.class_names))
    path = Path(str(origin.path))
    check_path(path)
    if path.suffix == SUFFIX:
        load_network(network, path)
    else:
        _load_state_dict(network, path)
    return recipe, network


@_network.register
def _of_timm(origin: FromTimm, student: Recipe, runs: Path, splits: Splits, trust_imports: bool) -> tuple[Recipe, Any]:
    recipe = network_recipe(student, origin)
    name, side = recipe.parts["backbone"], splits.train.input_size[-1]
    published, classes = preprocessing_of(name), published_classes(name)
    if published is None or classes is None:
        raise RecipeError(
            f"teacher.backbone={shown(name)} has no published weights; teacher=timm needs a network of timm that has"
        )
    if classes != len(splits.class_names):
        raise _other_classes(f"the weights of {name}", classes, len(splits.class_names))
    if published.side != side:
        raise DataError(
            f"the weights of {name} are for images of {published.side}x{published.side} pixels, the student's are "
            f"{side}x{side}; they must be equal: data.image_size={published.side}"
        )
    return recipe, build_network(recipe, classes, fresh=True)


def _trained(run: SavedRun, splits: Splits) -> tuple[Recipe, nn.Module]:
    """The network of a finished run whose classes and images are the student's."""
    folder = run.folder
    if not folder.is_finished:
        raise RunError(f"the teacher {folder.path} is not finished; the command that started it continues it")
    own, needed = run.class_names, splits.class_names
    if len(own) != len(needed):
        raise _other_classes(f"the teacher {folder.path}", len(own), len(needed))
    if own != needed:
        number, (theirs, ours) = _first_difference(own, needed)
        raise RunError(
            f"the teacher {folder.path} has other classes than the student, or in another order: class {number} is "
            f"{shown(theirs)} there and {shown(ours)} here"
        )
    size, needed_size = (_shown_size(each) for each in (run.input_size, splits.train.input_size))
    if size != needed_size:
        raise RunError(f"the teacher {folder.path} was trained on images of {size}, the student's are {needed_size}")
    network, _ = run.network()
    return run.recipe, network


def _load_state_dict(network: nn.Module, path: Path) -> None:
    """Load a file that `torch.save(network.state_dict(), path)` wrote, without unpickling code.

    Raises: CheckpointError: if the file is missing, damaged, or its keys and shapes are not exactly the network's.
    """
    cannot = f"{path} cannot be loaded into {type(network).__name__}"
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{cannot}: {first_line(error)}") from error  # of what follows, some is no good advice
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise CheckpointError(f"{path} is no state dict: it must hold the tensors of a network, by name, alone")
    try:
        network.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise CheckpointError(f"{cannot}: {error}") from error


def _other_classes(whose: str, classes: int, needed: int) -> DataError:
    return DataError(f"{whose}: {classes} classes; the student has {needed}. Teacher and student must have the same")


def _first_difference(own: Sequence[str], needed: Sequence[str]) -> tuple[int, tuple[str, str]]:
    return next((number, pair) for number, pair in enumerate(zip(own, needed, strict=True)) if pair[0] != pair[1])


def _shown_size(size: tuple[int, int, int]) -> str:
    return "x".join(map(str, size))
