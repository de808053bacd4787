"""Check the keys of overrides and recipes against the source code of the parts, before torch is imported."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from selfkd.errors import RecipeError, shown
from selfkd.recipes.option_names import LISTING, every_key, nearest_keys, numeric_options, option_names, unknown_option
from selfkd.recipes.sections import CHOSEN, TEACHER_PREFIX, sections_of
from selfkd.recipes.teacher_keys import keys_near_teacher
from selfkd.recipes.values import check_notation
from selfkd.teachers import TEACHERS

__all__ = ["check_keys", "check_numbers", "check_override_keys", "nearest_option", "split_overrides"]

_MOST_SEEDS = 10  # that a hint lists


def split_overrides(arguments: Sequence[str]) -> dict[str, str]:
    """Split `key=value` arguments into a mapping. The values stay texts; `resolve` reads them by the option's type.

    Raises:
        RecipeError: if an argument has another form, or a key is given twice.
        UnknownNameError: if no part has an option with this key; the message gives the nearest.
    """
    overrides: dict[str, str] = {}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if not equals or not key:
            raise RecipeError(f"{shown(argument)} is not an override; write key=value, for example trainer.epochs=15")
        if key in overrides:
            raise RecipeError(f"{key} is given twice")
        overrides[key] = text
    check_override_keys(overrides)
    return overrides


def check_override_keys(overrides: Mapping[str, object]) -> None:
    """Check that some part has an option with each key.

    Raises: UnknownNameError: if no part has it; the message gives the nearest.
    """
    known = every_key()
    for key, value in overrides.items():
        bare = key.removeprefix(TEACHER_PREFIX)
        section, _, option = bare.partition(".")
        may_be_custom = section in CHOSEN and CHOSEN[section].catalogue.takes_own and option
        if key not in known and bare not in known and not may_be_custom:
            kind = overrides.get("teacher")
            is_teacher_key = key.startswith(TEACHER_PREFIX) and kind in TEACHERS
            raise unknown_option(key, value, keys_near_teacher(str(kind), bare) if is_teacher_key else known)


def nearest_option(word: str, value: str = "...") -> str | None:
    """The override that the user may have meant: `trainer.epochs=3` for `--epochs` and 3. None if no key is near.

    Args:
        word: the user's word, with or without dashes before it.
        value: the user's value.
    """
    name = word.lstrip("-").partition("=")[0]
    if name == "seeds" and value in map(str, range(2, _MOST_SEEDS + 1)):
        return f"seed={','.join(map(str, range(int(value))))}"  # a number of seeds, as 'selfkd compare' takes it
    near = nearest_keys(name, every_key())
    return f"{near[0]}={value}" if near else None


def check_keys(parts: Mapping[str, str], flat: Mapping[str, object], known: Collection[str] | None = None) -> None:
    """Check that the chosen parts have the options that a recipe sets.

    Args:
        parts: section to the name of the chosen part.
        flat: the recipe's options, by flat key.
        known: the keys of the options of the imported parts. If this is None, no part is imported, and the options of
            custom parts are not checked.
    Raises:
        UnknownNameError: if a part or an option does not exist; the message gives the nearest.
        RecipeError: if the recipe has no such section.
    """
    unchecked = set()
    if known is None:
        names = {section: option_names(section, parts.get(section)) for section in sections_of(parts)}
        unchecked = {section for section, options in names.items() if options is None}
        known = ["seed", *(key for options in names.values() for key in options or ())]
    for key, value in flat.items():
        section, _, option = key.partition(".")
        if option and section in CHOSEN and section not in parts:
            raise RecipeError(
                f"{key}={shown(value)} has no meaning without {section}=<name>; {CHOSEN[section].catalogue.listing}"
            )
        if key not in known and not (option and section in unchecked):
            listing = f"{LISTING} of {section} {parts[section]!r}" if section in parts else LISTING
            raise unknown_option(key, value, [*known, *CHOSEN, "name"], listing)


def check_numbers(parts: Mapping[str, str], flat: Mapping[str, object]) -> None:
    """Check that the options for numbers have plain decimals. No part is imported.

    Raises: RecipeError: if a number is written in another way.
    """
    for section in sections_of(parts):
        for key in numeric_options(section, parts.get(section)):
            check_notation(key, flat.get(key))
    check_notation("seed", flat.get("seed"))
