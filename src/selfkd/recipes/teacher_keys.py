"""The keys `teacher.<key>` of a student's recipe that set keys of the teacher's recipe."""

from __future__ import annotations

from typing import Any

from selfkd.catalogue import is_own
from selfkd.errors import RecipeError, shown
from selfkd.recipes.option_names import LISTING, every_key, option_names, unknown_option
from selfkd.recipes.sections import TEACHER_PREFIX
from selfkd.recipes.values import written
from selfkd.teachers import TEACHERS

__all__ = ["keys_near_teacher", "take_teacher_keys"]


def take_teacher_keys(flat: dict[str, Any]) -> dict[str, str]:
    """Remove the keys of the teacher's recipe from a student's recipe, and return them. The values are not read yet.

    Args:
        flat: the student's keys; the teacher's are removed from it.
    Returns: the keys without their prefix `teacher.`, and their values as texts.
    Raises:
        UnknownNameError: if no recipe has such a key.
        RecipeError: if a key has no meaning for this kind of teacher.
    """
    kind = flat.get("teacher")
    if not isinstance(kind, str) or kind not in TEACHERS:
        return {}  # no teacher, or an unknown kind, which is an error when the part is looked up
    taken: dict[str, str] = {}
    origin = TEACHERS.load(kind)
    own, known = option_names("teacher", kind) or (), every_key()
    of_any_kind = {option for other in TEACHERS for option in option_names("teacher", other) or ()}
    for key in [key for key in flat if key.startswith(TEACHER_PREFIX) and key not in own]:
        value, bare = flat.pop(key), key.removeprefix(TEACHER_PREFIX)
        section = bare.partition(".")[0]
        named = (flat.get(section), flat.get(f"{TEACHER_PREFIX}{section}"), taken.get(section))
        # The options of a custom part are not known yet.
        unknown = bare not in known and not any(is_own(str(name)) for name in named)
        if unknown and key not in of_any_kind:
            raise unknown_option(key, value, keys_near_teacher(kind, bare), f"{LISTING} of a recipe")
        if unknown or not origin.takes(bare):
            keys = ("<key of its recipe>",) if origin.keys is None else origin.keys
            others = [*own, *(f"{TEACHER_PREFIX}{each}" for each in keys)]
            raise RecipeError(
                f"{key}={shown(value)} has no meaning with teacher={kind}, which takes {', '.join(others) or 'nothing'}"
            )
        taken[bare] = written(value)
    return taken


def keys_near_teacher(kind: str, bare: str) -> list[str]:
    """The full keys that this kind of teacher takes, to find those near `teacher.<bare>`.

    Keys of the teacher's own teacher are among them only if `bare` is such a key.
    """
    origin = TEACHERS.load(kind)
    keys = [key for key in every_key() if bare.startswith(TEACHER_PREFIX) or not key.startswith(TEACHER_PREFIX)]
    return [*(option_names("teacher", kind) or ()), *(f"{TEACHER_PREFIX}{key}" for key in keys if origin.takes(key))]
