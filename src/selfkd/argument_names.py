"""Misspelt arguments of functions that take options of a recipe as keywords, too."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from selfkd.errors import UnknownNameError

__all__ = ["naming_arguments"]

P = ParamSpec("P")
R = TypeVar("R")

_NEAR = 0.75  # of difflib's similarity, in [0, 1]


def naming_arguments(function: Callable[P, R]) -> Callable[P, R]:
    """Let the error for an unknown option name an argument of the function, if that is nearer.

    Args:
        function: takes options of a recipe as further keywords.
    """
    parameters = inspect.signature(function).parameters.values()
    own = [each.name for each in parameters if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)]

    @functools.wraps(function)
    def named(*arguments: P.args, **keywords: P.kwargs) -> R:
        try:
            return function(*arguments, **keywords)
        except UnknownNameError as error:
            near = difflib.get_close_matches(error.name, own, n=1, cutoff=_NEAR)
            if error.kind != "option" or error.name not in keywords or not near:
                raise
            listing = f"help(selfkd.{function.__qualname__}) explains the arguments"
            raise UnknownNameError("argument", error.name, own, listing, near) from None

    return named
