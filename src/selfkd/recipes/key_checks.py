"""The keys of overrides and recipes, checked against the sources of the parts before torch is loaded."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from selfkd.errors import RecipeError, shown
from selfkd.recipes.option_names import LISTING, every_key, nearest_keys, numeric_options, option_names, unknown_option
from selfkd.recipes.sections import CHOSEN, TEACHER_PREFIX, sections_of
from selfkd.recipes.teacher_keys import keys_near_teacher
from selfkd.recipes.values import check_notation
from selfkd.teachers import TEACHERS

__all__ = ["check_keys", "check_numbers", "nearest_option", "split_overrides"]


def split_overrides(arguments: Sequence[str]) -> dict[str, str]:
    """`key=value` arguments as a mapping; values stay text, which the option's type reads.

    Raises:
        RecipeError: if an argument has another form, or a key comes twice.
        UnknownNameError: if a key is no option of any part; the message gives the nearest.
    """
    overrides: dict[str, str] = {}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if not equals or not key:
            raise RecipeError(f"{shown(argument)} is no override; write key=value, for example trainer.epochs=15")
        if key in overrides:
            raise RecipeError(f"{key} is given twice")
        overrides[key] = text
    known = every_key()
    for key, text in overrides.items():
        bare = key.removeprefix(TEACHER_PREFIX)
        section, _, option = bare.partition(".")
        may_be_own = section in CHOSEN and CHOSEN[section].catalogue.takes_own and option
        if key not in known and bare not in known and not may_be_own:
            kind = overrides.get("teacher")
            of_teacher = key.startswith(TEACHER_PREFIX) and kind in TEACHERS
            raise unknown_option(key, text, keys_near_teacher(str(kind), bare) if of_teacher else known)
    return overrides


def nearest_option(word: str, value: str = "...") -> str | None:
    """The override that somebody may have meant, `trainer.epochs=3` for `--epochs` and 3; None if nothing is near.

    Args:
        word: what was written, with or without dashes before it.
        value: what was written as its value.
    """
    near = nearest_keys(word.lstrip("-").partition("=")[0], every_key())
    return f"{near[0]}={value}" if near else None


def check_keys(parts: Mapping[str, str], flat: Mapping[str, object], known: Collection[str] | None = None) -> None:
    """Check that the chosen parts have the options that a recipe sets.

    Args:
        parts: section to the name of the chosen part.
        flat: the keys of the options.
        known: the options of the imported parts. Without them no part is imported, and the options of the user's own
            parts are not checked.
    Raises:
        UnknownNameError: if a part or an option does not exist; the message gives the nearest.
        RecipeError: if the recipe has no such section.
    """
    unread = set()
    if known is None:
        names = {section: option_names(section, parts.get(section)) for section in sections_of(parts)}
        unread = {section for section, options in names.items() if options is None}
        known = ["seed", *(key for options in names.values() for key in options or ())]
    for key, value in flat.items():
        section, _, option = key.partition(".")
        if option and section in CHOSEN and section not in parts:
            raise RecipeError(
                f"{key}={shown(value)} has no meaning without {section}=<name>; {CHOSEN[section].catalogue.listing}"
            )
        if key not in known and not (option and section in unread):
            listing = f"{LISTING} of {section} {parts[section]!r}" if section in parts else LISTING
            raise unknown_option(key, value, [*known, *CHOSEN, "name"], listing)


def check_numbers(parts: Mapping[str, str], flat: Mapping[str, object]) -> None:
    """Check that options which take numbers only have them in plain decimals; no part is imported.

    Raises: RecipeError: if one has another notation.
    """
    for section in sections_of(parts):
        for key in numeric_options(section, parts.get(section)):
            check_notation(key, flat.get(key))
    check_notation("seed", flat.get("seed"))
