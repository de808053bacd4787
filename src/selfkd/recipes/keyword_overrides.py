"""Overrides that come as keyword arguments of Python: their names become flat keys, their values plain ones."""

from __future__ import annotations

import os
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from selfkd.errors import RecipeError
from selfkd.recipes.key_checks import check_override_keys
from selfkd.recipes.sections import ALWAYS, CHOSEN, TEACHER_PREFIX
from selfkd.recipes.values import not_allowed

__all__ = ["flat_overrides"]


def flat_overrides(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """The overrides of a recipe, by flat key.

    Args:
        keywords: values by keyword. In a keyword the first underscore after the name of a section stands for a dot:
            `trainer_epochs` is `trainer.epochs`, `optimizer_weight_decay` is `optimizer.weight_decay`. A flat key is
            taken, too. A value is a number, a text, True, False, None, a path, or a list of these.
    Raises:
        UnknownNameError: if no part has an option with this key; the message gives the nearest.
        RecipeError: if a key is given twice, or a value is something else.
    """
    overrides: dict[str, Any] = {}
    for keyword, value in keywords.items():
        key = _flat_key(keyword)
        if key in overrides:
            raise RecipeError(f"{key} is given twice")
        overrides[key] = _plain(key, value)
    check_override_keys(overrides)
    return overrides


def _flat_key(keyword: str) -> str:
    section, underscore, option = keyword.partition("_")
    if "." in section or not underscore or section not in {*CHOSEN, *ALWAYS}:
        return keyword
    if f"{section}." == TEACHER_PREFIX:  # its options may be keys of the teacher's own recipe
        return f"{TEACHER_PREFIX}{_flat_key(option)}"
    return f"{section}.{option}"


def _plain(key: str, value: Any) -> Any:
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Integral):  # also NumPy's
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, list | tuple | range):
        return [_plain(key, each) for each in value]
    raise not_allowed(key, value, "a number, a text, True, False, None, a path, or a list of these")
