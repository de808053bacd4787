"""Resolve several recipes at once: patterns of names, and lists of seeds and parts."""

from __future__ import annotations

import fnmatch
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from selfkd.errors import OptionError, RecipeError, UnknownNameError, shown
from selfkd.option_checks import at_least
from selfkd.recipes.files import ENDINGS, recipe_names
from selfkd.recipes.option_values import read_seed
from selfkd.recipes.reader import resolve
from selfkd.recipes.recipe import Recipe, differences
from selfkd.recipes.sections import CHOSEN

__all__ = ["each_once", "resolve_several"]

_SEED = "seed"
_PATTERN_MARKS = "*?["
_MOST_SEEDS = 1000


def resolve_several(
    names: Sequence[str | Recipe],
    overrides: Mapping[str, Any],
    seeds: int | Sequence[int] | None,
    trust_imports: bool = False,
) -> list[Recipe]:
    """Resolve recipes with every combination of the listed parts, and each with every seed.

    `method=plain,dtskd` is a list of parts: every section whose part is chosen by name takes one. `seed=0,1,2` is a
    list of seeds. Both may also be Python lists.

    Args:
        names: names of recipes of the package, patterns of such names, paths of YAML files, or resolved recipes. In a
            pattern, `*` stands for any text, `?` for any character.
        overrides: flat keys that replace those of each recipe, as for `resolve`.
        seeds: a number of seeds, which are counted from 0, or the seeds of each recipe. None for those of the
            overrides; without these, each recipe has its own seed.
        trust_imports: whether a file may name `package.module:Name`, whose import runs code. Overrides always may.
    Returns: recipe by recipe in the order of the names, combination by combination, and seed by seed; each once.
    Raises:
        UnknownNameError: if no recipe fits a name or a pattern; the message gives the nearest. Also as `resolve`.
        RecipeError: if no name is given, the seeds are given twice, a list has an empty place, or two recipes would
            share a run folder. Also as `resolve`.
        OptionError: if `seeds` has another value.
    """
    if not names:
        raise RecipeError("name a recipe, for example 'demo/digits/resnet18/*'; 'selfkd list recipes' shows all")
    expanded: list[str | Recipe] = []
    for name in _expanded(names):
        if name not in expanded:
            expanded.append(name)
    numbers = _seeds(overrides, seeds)
    lists = {section: _values(section, overrides[section]) for section in CHOSEN if section in overrides}
    combinations = [dict(zip(lists, parts, strict=True)) for parts in itertools.product(*lists.values())]
    if "name" in overrides and len(expanded) * len(combinations) > 1:
        raise RecipeError(
            f"name={shown(overrides['name'])} is not allowed with several recipes or parts: all would have the run "
            "folder of that name; leave it out"
        )
    others = {key: value for key, value in overrides.items() if key != _SEED}
    recipes = [resolve(name, {**others, **parts}, trust_imports) for name in expanded for parts in combinations]
    if numbers is not None:
        recipes = [recipe.with_seed(seed) for recipe in recipes for seed in numbers]
    return each_once(recipes)


def each_once(recipes: Iterable[Recipe]) -> list[Recipe]:
    """The recipes without repetitions, in their order. Of two that differ in options of the machine, the first stays.

    Raises: RecipeError: if two different recipes have the same name and seed, and so the same run folder.
    """
    found: dict[tuple[str, int], Recipe] = {}
    for recipe in recipes:
        first = found.setdefault((recipe.name, recipe.seed), recipe)
        different = differences(first.flat(), recipe.flat())
        roots = [each.options["data"].get("root") for each in (first, recipe)]
        if roots[0] != roots[1]:  # an option of the machine, but here it may stand for other images
            different.append(f"data.root: {shown(roots[0])} and {shown(roots[1])}")
        if different:
            raise RecipeError(
                f"two recipes would share the run folder {recipe.name}/seed-{recipe.seed} ({'; '.join(different)}); "
                "give each a name of its own"
            )
    return list(found.values())


def _expanded(names: Sequence[str | Recipe]) -> Iterator[str | Recipe]:
    """The names, with each pattern replaced by the names of the package's recipes that fit it."""
    for name in names:
        if isinstance(name, Recipe) or name.endswith(ENDINGS) or not any(mark in name for mark in _PATTERN_MARKS):
            yield name
            continue
        known = recipe_names()
        fitting = [each for each in known if fnmatch.fnmatchcase(each, name)]
        if not fitting:
            raise UnknownNameError("recipe", name, known, "'selfkd list recipes' shows all")
        yield from fitting


def _seeds(overrides: Mapping[str, Any], seeds: int | Sequence[int] | None) -> list[int] | None:
    """The seeds of each recipe, each once; None if every recipe has its own seed."""
    if isinstance(seeds, int):
        seeds = range(at_least("seeds", seeds, 1, _MOST_SEEDS))
    elif seeds is not None and not (isinstance(seeds, Sequence) and seeds and all(isinstance(n, int) for n in seeds)):
        raise OptionError("seeds", seeds, "a number of seeds, or a list of one or more seeds")
    if _SEED not in overrides:
        return None if seeds is None else list(dict.fromkeys(map(read_seed, seeds)))
    if seeds is not None:
        raise RecipeError(f"seed={shown(overrides[_SEED])} and other seeds are given; give the seeds once")
    return list(dict.fromkeys(map(read_seed, _values(_SEED, overrides[_SEED]))))


def _values(key: str, value: Any) -> list[Any]:
    """The values of a list, or of a text with commas, each once; the value itself if it is neither."""
    if isinstance(value, list):
        if not value:
            raise RecipeError(f"{key}=[] is not allowed; the list must hold one value or more")
        return [each for place, each in enumerate(value) if each not in value[:place]]
    if not isinstance(value, str) or "," not in value:
        return [value]
    values = [each.strip() for each in value.split(",")]
    if "" in values or values[0].startswith("["):
        raise RecipeError(
            f"{key}={shown(value)} is not allowed; write a list with commas alone, for example "
            f"{key}={'0,1,2' if key == _SEED else ','.join(list(CHOSEN[key].catalogue)[:2])}"
        )
    return list(dict.fromkeys(values))
