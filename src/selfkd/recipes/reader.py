"""Resolve recipes: a recipe and its overrides become a `Recipe`, with every key, name and value checked.

A recipe is flat YAML: `method: dtskd` chooses a part, `method.beta_max: 0.9` sets one of its options. The signature of
a part defines its options. First, keys and numbers are checked against the source code of the parts (`key_checks`), so
that a typing error is found before torch is imported. Then the parts are imported, and the values are read
(`option_values`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from selfkd.catalogue import is_own
from selfkd.errors import RecipeError, UserError, shown
from selfkd.methods import RESERVED, check_reserved, method_class
from selfkd.recipes.files import full_name, read_recipe
from selfkd.recipes.key_checks import check_keys, check_numbers
from selfkd.recipes.option_values import option_values
from selfkd.recipes.part_options import options_of
from selfkd.recipes.recipe import WEIGHTS, Recipe, is_of_machine
from selfkd.recipes.run_names import checked_name, name_with_changes, recipe_stem
from selfkd.recipes.sections import ALWAYS, CHOSEN, FOLLOWING, TEACHER_PREFIX, follows_again, override
from selfkd.recipes.teacher_keys import take_teacher_keys
from selfkd.recipes.values import not_allowed
from selfkd.recipes.weights_preprocessing import following_weights

__all__ = ["derive", "resolve"]

_NONE = "null"  # in an override: an optional section has no part


def resolve(name: str | Recipe, overrides: Mapping[str, Any] | None = None, trust_imports: bool = False) -> Recipe:
    """Read a recipe, apply the overrides, and check every name, option and value.

    Args:
        name: name of a recipe of the package, whole or without the parts that leave no choice; path of a YAML file; or
            a resolved recipe, whose parts are trusted.
        overrides: flat keys that replace the recipe's; `name` replaces the run's name.
        trust_imports: whether the file may name `package.module:Name`, whose import runs code. Overrides always may.
    Raises:
        UnknownNameError: if the recipe, a part or an option does not exist; the message gives the nearest.
        RecipeError: if a value has the wrong type, or a section is missing.
    """
    if isinstance(name, Recipe):
        if not overrides:
            return name
        changed = _changed(name.name, name.stored(), overrides).with_given_of(name)
        if follows_again(name.flat(), overrides):
            return changed
        return replace(changed, undecided=name.undecided.difference(overrides))
    name = full_name(name)
    given = read_recipe(name)
    if not isinstance(given.get("published", {}), Mapping):
        raise RecipeError(f"{name}: published={shown(given['published'])} is not allowed; published must be a mapping")
    if not trust_imports:
        _refuse_imports(name, given, overrides or {})
    return _changed(str(given.get("name") or recipe_stem(name)), given, overrides or {})


def _changed(stem: str, flat: Mapping[str, Any], changes: Mapping[str, Any]) -> Recipe:
    """A recipe of flat keys with overrides, which also change its name."""
    given, overrides = dict(flat), dict(changes)
    given.pop("name", None)
    published = given.pop("published", {})
    own_name = overrides.pop("name", None)
    run_name = checked_name(stem if own_name is None else str(own_name))
    if not overrides:
        return _resolve_keys(run_name, _without_lacking(given), published)
    merged = _without_lacking(override(given, overrides), overrides)
    recipe = _resolve_keys(run_name, merged, {})
    before, after = _flat_without_overrides(run_name, given, merged), recipe.flat()
    named = sorted(
        key for key in overrides if key in WEIGHTS or (key != "seed" and not is_of_machine(key, recipe.parts))
    )
    changed = {key: after.get(key) for key in named if before.get(key) != after.get(key)}
    if isinstance(teacher := changed.get("teacher.recipe"), str):
        changed["teacher.recipe"] = recipe_stem(teacher)  # like the name of the teacher's run
    for key in WEIGHTS:
        if isinstance(file := changed.get(key), str) and is_of_machine(key, recipe.parts):
            changed[key] = Path(file).stem  # the folder of the file is an option of the machine
    return replace(
        recipe,
        name=name_with_changes(run_name, changed) if own_name is None else run_name,
        published={} if changed else published,
    )


def _without_lacking(flat: Mapping[str, Any], chosen: Collection[str] = ()) -> dict[str, Any]:
    """The flat keys without options that data sets share and that a user's own data set lacks.

    A recipe keeps such options when the user's own replaces other images; only its import tells whether it has them.

    Args:
        flat: the flat keys.
        chosen: keys that stay, because the user just gave them.
    Raises: UserError: if the user's own data set cannot be imported or used.
    """
    name = flat.get("data")
    if not isinstance(name, str) or not is_own(name):
        return dict(flat)
    shared = {f"data.{option}" for option in CHOSEN["data"].shared(name, name)}.intersection(flat).difference(chosen)
    lacking = shared.difference(options_of({"data": name})) if shared else shared
    return {key: value for key, value in flat.items() if key not in lacking}


def derive(recipe: Recipe, changes: Mapping[str, Any], without: Collection[str] = ()) -> Recipe:
    """A resolved recipe with some keys changed, under the same name.

    Args:
        recipe: the recipe to change.
        changes: flat keys that replace the recipe's; None removes an optional section.
        without: flat keys of the recipe that get their defaults again.
    Raises: UserError: as `resolve`.
    """
    kept = {key: value for key, value in recipe.flat().items() if key not in {"name", "published", *without}}
    return _resolve_keys(recipe.name, override(kept, changes), {}).with_given_of(recipe)


def _refuse_imports(name: str, given: Mapping[str, Any], overrides: Mapping[str, Any]) -> None:
    takes_own = [section for section, chosen in CHOSEN.items() if chosen.catalogue.takes_own]
    for key in (*takes_own, *(f"{TEACHER_PREFIX}{section}" for section in takes_own)):
        value = given.get(key)
        if isinstance(value, str) and is_own(value) and key not in overrides:
            raise RecipeError(
                f"{name} names the {key} {value!r}, whose import runs code; "
                f"if you trust it, say so with {key}={value} (when training) or --trust-imports"
            )


def _flat_without_overrides(stem: str, given: Mapping[str, Any], merged: Mapping[str, Any]) -> dict[str, Any]:
    """The flat keys of a recipe without its overrides.

    These are only the file's keys, without defaults, if the file is incomplete without the overrides, or if the
    overrides replace a custom part.
    """
    if any(is_own(str(given.get(section))) and given[section] != merged[section] for section in CHOSEN):
        return dict(given)
    try:
        return _resolve_keys(stem, _without_lacking(given), {}).flat()
    except UserError:
        return dict(given)


def _resolve_keys(name: str, flat: Mapping[str, Any], published: Mapping[str, Any]) -> Recipe:
    keys = dict(flat)
    following = frozenset(keys.pop(FOLLOWING, ())).intersection(keys)
    of_teacher = take_teacher_keys(keys)
    parts = _take_parts(keys)
    check_keys(parts, keys)
    check_numbers(parts, keys)
    method = method_class(parts["method"])
    removals = {section: f"{section}={_NONE} removes it" for section in RESERVED if section in flat}
    check_reserved(parts["method"], method, [section for section in RESERVED if section in parts], removals)
    if method.needs.teacher and "teacher" not in parts:
        raise RecipeError(
            f"method {parts['method']!r} learns from a teacher, and the recipe names none; add for example "
            "teacher=recipe teacher.recipe=<name>, or teacher=run teacher.path=<folder>"
        )
    if method.needs.peer:
        _complete_peer(parts, keys)
    seed, options = option_values(parts, keys)
    if method.needs.peer:
        following |= _following_backbone(parts, options).difference(flat)
    recipe = following_weights(Recipe(name, seed, parts, options, published, of_teacher, following=following), keys)
    if "augmentation.size" not in keys:
        recipe = _cropping_to_image_size(recipe)
    buildable = [section for section in parts if CHOSEN[section].leading == 0]
    for section in (*buildable, *ALWAYS):  # parts that need no data check the ranges of their options now
        recipe.build(section)
    for section, chosen in parts.items():
        if is_own(chosen):
            _check_plain(f"{section} {chosen!r}", section, recipe.options[section])
    return recipe


def _cropping_to_image_size(recipe: Recipe) -> Recipe:
    """The recipe whose random crops have the size of the data set's images, where both are options."""
    if "size" not in recipe.options["augmentation"]:
        return recipe
    recipe = replace(recipe, following=recipe.following | {"augmentation.size"})
    if "data.image_size" in recipe.undecided:
        return replace(recipe, undecided=recipe.undecided | {"augmentation.size"})
    side = recipe.options["data"].get("image_size")
    if side is None:
        return recipe
    return replace(recipe, options={**recipe.options, "augmentation": {**recipe.options["augmentation"], "size": side}})


def _take_parts(keys: dict[str, Any]) -> dict[str, str]:
    """Remove the names of the chosen parts from a recipe's keys, and return them by section."""
    parts: dict[str, str] = {}
    if "peer" not in keys and any(key.startswith("peer.") for key in keys):
        keys["peer"] = keys.get("backbone")
    for section, chosen in CHOSEN.items():
        name = keys.pop(section, None)
        if chosen.optional and name in (None, _NONE):
            continue
        if name is None:
            raise RecipeError(f"the recipe names no {section}; add '{section}: <name>'")
        if not isinstance(name, str):
            raise not_allowed(section, name, "a name")
        parts[section] = name
    return parts


def _complete_peer(parts: dict[str, str], keys: dict[str, Any]) -> None:
    """Copy the backbone's options to a peer of the same network, unless the recipe sets them for the peer."""
    if parts.setdefault("peer", parts["backbone"]) == parts["backbone"]:
        for key in [key for key in keys if key.startswith("backbone.")]:
            keys.setdefault(f"peer.{key.removeprefix('backbone.')}", keys[key])


def _following_backbone(parts: Mapping[str, str], options: Mapping[str, Mapping[str, Any]]) -> frozenset[str]:
    """The keys of a peer that follow the backbone, unless the recipe sets them."""
    copied = options["peer"] if parts["peer"] == parts["backbone"] else ()
    return frozenset({"peer", *(f"peer.{option}" for option in copied)})


def _check_plain(subject: str, section: str, options: Mapping[str, Any]) -> None:
    """Check that a run's recipe.yaml can hold the options of a custom part, with their defaults."""
    for option, value in options.items():
        try:
            yaml.safe_dump(value)
        except yaml.YAMLError as error:
            raise UserError(
                f"{subject} has the option {section}.{option}={shown(value)}, which a recipe cannot hold; "
                "options must be numbers, texts, true, false, null, or lists of these"
            ) from error
