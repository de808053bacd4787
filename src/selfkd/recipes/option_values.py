"""The values of all options of a recipe: those of the recipe, read by their types, and the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from selfkd.errors import RecipeError
from selfkd.given_paths import is_folder, lacking
from selfkd.recipes.files import ENDINGS, full_name
from selfkd.recipes.key_checks import check_keys
from selfkd.recipes.part_options import common_options, options_of
from selfkd.recipes.recipe import WEIGHTS
from selfkd.recipes.sections import sections_of
from selfkd.recipes.values import check_notation, in_words, not_allowed, read_value

__all__ = ["option_values", "read_seed"]

_PATHS = ("data.root", "data.image_root", "teacher.path")
_TEACHER_RECIPE = "teacher.recipe"
_SEED = "seed"
_LARGEST_SEED = 2**32 - 1


def option_values(parts: Mapping[str, str], flat: Mapping[str, Any]) -> tuple[int, dict[str, dict[str, Any]]]:
    """The seed, and the options of every section with their values; paths are absolute, names of recipes are whole.

    Args:
        parts: section to the name of the chosen part.
        flat: the keys that the recipe sets.
    Raises:
        UnknownNameError: if an option does not exist.
        RecipeError: if a value is not allowed, or one is missing.
    """
    known = options_of(parts)
    check_keys(parts, flat, list(known))
    common = {key for section, name in parts.items() for key in common_options(section, name)}
    paths = {*_PATHS, *common.intersection(WEIGHTS)}
    options: dict[str, dict[str, Any]] = {section: {} for section in ("", *sections_of(parts))}
    for key, option in known.items():
        if option.required and key not in flat:
            raise RecipeError(f"{key} has no default; add {key}=<value>, {in_words(option.kind)}")
        if key == _SEED:
            options[""][key] = read_seed(flat.get(key, option.default))
            continue
        value = read_value(key, flat[key], option.kind) if key in flat else option.default
        if value is None and option.default is not None:
            raise RecipeError(f"{key}=null is not allowed; leave the key out for its default {option.default}")
        if value is not None and (key in paths or (key == _TEACHER_RECIPE and value.endswith(ENDINGS))):
            value = _absolute_path(key, value)
        elif value is not None and key == _TEACHER_RECIPE:
            value = full_name(value)
        section, _, name = key.rpartition(".")
        options[section][name] = value
    return options.pop("")[_SEED], options


def read_seed(value: Any) -> int:
    """Read a seed.

    Args:
        value: a text of the command line, or a value of a recipe.
    Raises: RecipeError: if it is not a whole number from 0 to 2^32 - 1.
    """
    check_notation(_SEED, value)
    seed: int | None = read_value(_SEED, value, int)
    if seed is None or not 0 <= seed <= _LARGEST_SEED:
        raise not_allowed(_SEED, seed, f"from 0 to {_LARGEST_SEED}")
    return seed


def _absolute_path(key: str, text: str) -> str:
    """The absolute path of an option. It need not exist; the code that reads it checks that.

    Links to folders are followed. A link to a file keeps its name: the ending of that name says what the file is, and
    the user knows it by this name. The Hub's cache, for example, has `model.safetensors` -> `blobs/<checksum>`.

    Raises: RecipeError: if no file or folder can have this path.
    """
    if not text.strip():
        allowed = "the path of a folder ('.' is the current one)" if key == "data.root" else "a path"
        raise not_allowed(key, text, allowed)
    try:
        path = _with_folders_followed(Path(text).expanduser())
    except RuntimeError as error:
        raise not_allowed(key, text, "a path that begins with the name of a known user, or without ~") from error
    except (OSError, ValueError):  # too long, or with null bytes
        path = Path(text)
    wanted = lacking(path)
    if wanted is not None:
        raise not_allowed(key, text, wanted)
    return str(path)


def _with_folders_followed(path: Path) -> Path:
    followed = path.resolve()
    return followed if is_folder(followed) or path.name in ("", "..") else path.parent.resolve() / path.name
