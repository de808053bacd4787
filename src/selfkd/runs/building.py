"""What a recipe names, built: its data set, and its method, before a training or from the records of one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from selfkd.contract import DatasetInfo
from selfkd.data.sources.base import Source
from selfkd.errors import BackboneError, OptionError
from selfkd.methods import method_class
from selfkd.methods.base import Method
from selfkd.recipes.reader import Recipe
from selfkd.runs.networks import build_network, staged_at
from selfkd.teachers.teacher import Teacher

__all__ = ["build_method", "build_source", "needs_labels", "told"]


def build_source(recipe: Recipe) -> Source:
    """The recipe's data set, of which nothing is read yet.

    Raises: UserError: if its options are not usable.
    """
    source: Source = recipe.target("data")(**recipe.options["data"])
    return source


def needs_labels(recipe: Recipe) -> bool:
    """Whether the recipe's method must be told the label of every training sample."""
    return method_class(recipe.parts["method"]).needs.labels


def told(recipe: Recipe, data: DatasetInfo) -> DatasetInfo:
    """What the recipe's method is told of its training set, in training and ever after; labels only if it needs them.

    Args:
        recipe: whose method it is.
        data: all that is known.
    """
    return data if needs_labels(recipe) else replace(data, labels=None)


def build_method(recipe: Recipe, data: DatasetInfo, fresh: bool, teacher: Teacher | None = None) -> Method:
    """What the recipe trains: its method, around its network.

    Args:
        recipe: whose networks and method are built.
        data: what is known of the training set, which the method is `told`; its images need not be there.
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
        method: Method = recipe.target("method")(backbone, told(recipe, data), **recipe.options["method"], **given)
    return method


@contextmanager
def _options_of(section: str) -> Iterator[None]:
    """Let errors name an option as the user wrote it."""
    try:
        yield
    except OptionError as error:
        if "." in error.option:
            raise
        raise error.renamed(f"{section}.{error.option}") from error
