"""A recipe's method, from what is known of its data: before a training, and from the records of one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from selfkd.contract import DatasetInfo
from selfkd.errors import BackboneError, OptionError
from selfkd.methods.base import Method
from selfkd.recipes.reader import Recipe
from selfkd.runs.networks import build_network, staged_at
from selfkd.teachers.teacher import Teacher

__all__ = ["build_method"]


def build_method(recipe: Recipe, data: DatasetInfo, fresh: bool, teacher: Teacher | None = None) -> Method:
    """What the recipe trains: its method, around its network.

    Args:
        recipe: whose networks and method are built.
        data: what is known of the training set; its images need not be there.
        fresh: begin from the weights that the recipe names; see `build_network`.
        teacher: of a recipe that has one.
    Raises: UserError: if network, method or their options are not usable.
    """
    if data.input_size is None:
        raise BackboneError("a method is built for images of a size; DatasetInfo.input_size is None")
    with _options_of("backbone"):
        network = build_network(recipe, data.num_classes, fresh)
    backbone = staged_at(network, data.input_size)
    given: dict[str, Any] = {} if teacher is None else {"teacher": teacher}
    if "peer" in recipe.parts:  # after the backbone, which so begins as in the runs of all other methods
        with _options_of("peer"):
            given["peer"] = staged_at(build_network(recipe, data.num_classes, fresh, "peer"), data.input_size)
    if "supervision" in recipe.parts:
        given["supervision"] = recipe.target("supervision")(**recipe.options["supervision"])
    with _options_of("method"):
        method: Method = recipe.target("method")(backbone, data, **recipe.options["method"], **given)
    return method


@contextmanager
def _options_of(section: str) -> Iterator[None]:
    """Let errors name an option as the user wrote it."""
    try:
        yield
    except OptionError as error:
        if "." in error.option:
            raise
        raise OptionError(f"{section}.{error.option}", error.value, error.allowed) from error
