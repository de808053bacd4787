"""Every option of the chosen parts. jsonargparse reads it from their signatures and docstrings."""

from __future__ import annotations

import functools
import re
import types
import typing
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from jsonargparse import ArgumentParser

from selfkd.catalogue import import_target, is_own
from selfkd.errors import UserError
from selfkd.recipes.sections import CHOSEN, part, sections_of

__all__ = ["Option", "common_options", "options_of"]


@dataclass(frozen=True)
class Option:
    """An option of a part.

    Args:
        key: `section.name`, or `seed`.
        kind: the annotated type of its values.
        default: the value if the user gives none.
        meaning: the text of the part's docstring.
        required: whether it has no default.
    """

    key: str
    kind: Any
    default: Any
    meaning: str
    required: bool = False

    @property
    def meaning_in_recipes(self) -> str:
        """The meaning in the words of recipes, where the docstring has those of Python: null for None."""
        return re.sub(r"\bNone\b", "null", self.meaning)


_SEED = Option("seed", int, 0, "the seed of all random numbers")


def options_of(parts: Mapping[str, str]) -> dict[str, Option]:
    """The options of the chosen parts and of the sections without a choice, by key.

    Args:
        parts: section to the name of the chosen part.
    Raises: UserError: if the parameters of a custom part cannot be read as options.
    """
    options = {_SEED.key: _SEED}
    for section in sections_of(parts):
        name = parts.get(section)
        options |= _options_of_part(section, name) | common_options(section, name)
    return options


def common_options(section: str, name: str | None) -> dict[str, Option]:
    """The options that a section adds to those of a part, by key, without those that a custom part has itself.

    Args:
        section: a section of a recipe.
        name: name of the chosen part; None for a section without a choice.
    Raises: UserError: if the parameters of a custom part cannot be read as options.
    """
    target = CHOSEN[section].common if section in CHOSEN else None
    if target is None:
        return {}
    own = _options_of_part(section, name) if name is not None and is_own(name) else {}
    return {key: option for key, option in _common_options(section, target).items() if key not in own}


@functools.cache
def _common_options(section: str, target: str) -> dict[str, Option]:
    return _SignatureReader().read(import_target(target), section, set())


def _options_of_part(section: str, name: str | None) -> dict[str, Option]:
    """The options that a part has itself, by key."""
    target = part(section, name)
    skipped, reserved = (CHOSEN[section].leading, CHOSEN[section].reserved) if section in CHOSEN else (0, ())
    if isinstance(target, functools.partial):
        skipped += len(target.args)
        target = target.func
    try:
        return _SignatureReader().read(target, section, {skipped, *reserved} if skipped else set(reserved))
    except Exception as error:
        if name is None or not is_own(name):
            raise
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"the parameters of {section} {name!r} cannot be read as options: {reason}") from error


class _SignatureReader(ArgumentParser):
    """Stores what jsonargparse finds in a signature. Later, only private attributes of its arguments hold that."""

    def __init__(self) -> None:
        super().__init__(exit_on_error=False, add_help=False, default_env=False)
        self._found: dict[str, dict[str, Any]] = {}

    def add_argument(self, *args: Any, **kwargs: Any) -> Any:
        self._found[args[0].removeprefix("--")] = kwargs
        return super().add_argument(*args, **kwargs)

    def read(self, target: Callable[..., Any], section: str, skip: set[int | str]) -> dict[str, Option]:
        """The options of a class or function.

        Args:
            target: the class or function.
            section: its section of the recipe.
            skip: parameters that are not options: the number of leading ones, and names.
        """
        add = self.add_class_arguments if isinstance(target, type) else self.add_function_arguments
        keys = add(target, section, as_group=False, skip=skip, fail_untyped=False)
        kinds = _kinds(target)
        return {
            key: Option(
                key,
                kinds.get(key.removeprefix(f"{section}."), Any),
                self._found[key].get("default"),
                self._found[key].get("help") or "",
                self._found[key].get("required", False),
            )
            for key in keys
        }


def _kinds(target: Callable[..., Any]) -> dict[str, Any]:
    """The annotated types of parameters, by name, with those of the base classes that a class passes `**options` to."""
    functions: list[Any] = [target]
    if isinstance(target, type):
        functions = [vars(base).get("__init__") for base in reversed(target.__mro__)]
    kinds: dict[str, Any] = {}
    for function in functions:
        for name, annotation in getattr(function, "__annotations__", {}).items():
            parameter = types.SimpleNamespace(__annotations__={name: annotation})
            with suppress(Exception):  # only a type checker can read this annotation
                kinds |= typing.get_type_hints(parameter, function.__globals__)
    return kinds
