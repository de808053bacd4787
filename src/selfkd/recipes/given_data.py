"""The argument `data` of the functions for Python users: a name of a data set, or a Dataset object."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from selfkd.catalogue import is_own
from selfkd.data import DATASETS
from selfkd.errors import RecipeError, shown
from selfkd.given_paths import CSV_ENDING, is_folder, is_there
from selfkd.recipes.recipe import Recipe

__all__ = ["DATASET_OBJECT", "chosen_data", "with_dataset"]

DATASET_OBJECT = "dataset"
"""Name of the data set that reads a Dataset object of a Python caller."""


def chosen_data(data: object) -> tuple[dict[str, Any], dict[str, object]]:
    """The override that chooses the data set, and the object that holds its images, by section.

    Args:
        data: a name, or a list of names; a Dataset, or a mapping from names of splits to Datasets; or None.
    Returns: the override, empty for None; and the object, empty for a name and for None.
    Raises: RecipeError: if it is a path or an empty mapping.
    """
    if data is None:
        return {}, {}
    names = data if isinstance(data, list | tuple) else [data]
    for name in names:
        if isinstance(name, os.PathLike) or (isinstance(name, str) and _is_path(name)):
            raise _path_for_name(os.fspath(name))
    if all(isinstance(name, str) for name in names):
        return {"data": data}, {}
    if isinstance(data, Mapping) and not data:
        raise RecipeError("data={} is empty; it must map the names of splits, such as train and test, to Datasets")
    return {"data": DATASET_OBJECT}, {"data": data}


def with_dataset(recipe: Recipe, data: object) -> Recipe:
    """The recipe of a run that was trained on a Dataset object, with that object.

    Args:
        recipe: the run's recipe.
        data: the Dataset, or the mapping from names of splits to Datasets; None leaves the recipe as it is.
    Raises: RecipeError: if it is something else, or if the run was trained on another kind of data.
    """
    chosen, given = chosen_data(data)
    if not chosen:
        return recipe
    if not given:
        raise RecipeError(f"data={shown(data)} is a name; give the Dataset object that the run was trained on")
    if recipe.parts["data"] != DATASET_OBJECT:
        raise RecipeError(
            f"the run was trained on data={recipe.parts['data']}, not on a Dataset object; leave data out here. "
            "evaluate(data=...) evaluates other images"
        )
    return replace(recipe, given=given)


def _is_path(name: str) -> bool:
    if name in DATASETS or is_own(name):
        return False
    return os.sep in name or name.startswith("~") or is_folder(Path(name)) or is_there(Path(name))


def _path_for_name(path: str) -> RecipeError:
    reader = "csv" if path.lower().endswith(CSV_ENDING) else "folder"
    return RecipeError(
        f"data={shown(path)} is a path, not the name of a data set; write data={reader}, and give the path as "
        "data.root (in Python as data_root)"
    )
