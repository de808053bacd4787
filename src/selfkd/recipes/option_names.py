"""Read the names of options from the source code of the parts, so that a wrong name is found before torch is imported.

Every part of this package has its options as keyword-only arguments or, if it is a dataclass, as fields. So their names
and annotations can be read from the source. Types, defaults and meanings come from the imported part (`part_options`).
"""

from __future__ import annotations

import ast
import difflib
import functools
import re
from collections.abc import Collection, Iterator
from importlib import resources
from pathlib import Path

from selfkd.catalogue import is_own
from selfkd.errors import UnknownNameError
from selfkd.recipes.sections import ALWAYS, CHOSEN, part_target
from selfkd.recipes.values import written

__all__ = ["LISTING", "every_key", "nearest_keys", "numeric_options", "option_names", "unknown_option"]

LISTING = "'selfkd train RECIPE --help' shows all options"

_PACKAGE = "selfkd"
# Words of other programs, and the keys here that have the same meaning.
_SYNONYMS = {
    "arch": ("backbone",),
    "batch": ("loader.batch_size",),
    "bs": ("loader.batch_size",),
    "dataset": ("data",),
    "device": ("trainer.accelerator",),
    "gpus": ("trainer.devices",),
    "learning_rate": ("optimizer.lr",),
    "model": ("backbone",),
    "num_workers": ("loader.workers",),
    "scheduler": ("schedule",),
    "wd": ("optimizer.weight_decay",),
}
# An annotation with only these words, brackets, commas and `|` is that of an option for numbers.
_NUMERIC = frozenset({"None", "float", "int", "list", "tuple"})
_WORD = re.compile(r"\w+|[^\w\s,.|\[\]]")
_MOST_KEYS = 3
_LONGEST_WORD = 100
_LONGEST_VALUE = 40  # a hint does not repeat a longer value


def option_names(section: str, name: str | None) -> tuple[str, ...] | None:
    """The options of a part as flat keys, without an import of the part. None for a custom part, which needs an import.

    Raises: UnknownNameError: if there is no such part.
    """
    annotations = _annotations(section, name)
    return None if annotations is None else tuple(annotations)


def numeric_options(section: str, name: str | None) -> tuple[str, ...]:
    """The options of a part, as flat keys, that take only numbers, lists of numbers, or null.

    It gives no options of a custom part, which needs an import.

    Raises: UnknownNameError: if there is no such part.
    """
    annotations = _annotations(section, name) or {}
    return tuple(
        key for key, annotation in annotations.items() if annotation and set(_WORD.findall(annotation)) <= _NUMERIC
    )


@functools.cache
def every_key() -> tuple[str, ...]:
    """Every key of an override: the sections, and all options of the package's parts and of timm and torchvision."""
    keys = ["seed"]
    for section in ALWAYS:
        keys += option_names(section, None) or ()
    for section, chosen in CHOSEN.items():
        for name in (*chosen.catalogue, *(example for _, example in chosen.others)):
            keys += option_names(section, name) or ()
    return tuple(dict.fromkeys((*keys, *CHOSEN, "name")))


def unknown_option(key: str, value: object, known: Collection[str], listing: str = LISTING) -> UnknownNameError:
    """The error for a key that does not exist. It names the nearest keys that exist.

    Args:
        key: the user's key.
        value: the user's value.
        known: the keys that exist.
        listing: how the user can see all keys.
    """
    near = nearest_keys(key, known)
    hints = [f"{each}={written(value)}" if len(str(value)) < _LONGEST_VALUE else each for each in near]
    return UnknownNameError("option", key, known, listing, hints)


def nearest_keys(word: str, known: Collection[str]) -> list[str]:
    """Up to three keys that the user may have meant, the likeliest first.

    Args:
        word: the user's word.
        known: the keys that exist: options, sections, `name`.
    """
    word = word[:_LONGEST_WORD].replace("-", "_")
    last = word.rpartition(".")[2]
    by_last: dict[str, list[str]] = {}
    for key in sorted(known, key=lambda key: "." in key):
        by_last.setdefault(key.rpartition(".")[2], []).append(key)
    joined = [key for key in known if key.replace(".", "_") == word.replace(".", "_")]
    same = [*joined, *by_last.get(last, []), *(key for key in _SYNONYMS.get(last, ()) if key in known)]
    if same:
        return list(dict.fromkeys(same))[:_MOST_KEYS]
    candidates = [key for key in known if "." in key or "." not in word]
    near_whole = difflib.get_close_matches(word, candidates, n=_MOST_KEYS, cutoff=0.5)
    near_lasts = difflib.get_close_matches(last, by_last, n=_MOST_KEYS, cutoff=0.6)
    near_last = [key for near in near_lasts for key in by_last[near]]
    return list(dict.fromkeys(near_whole + near_last if "." in word else near_last + near_whole))[:_MOST_KEYS]


@functools.cache
def _tree(module: str) -> ast.Module:
    path = Path(str(resources.files(_PACKAGE))).joinpath(*module.split(".")[1:])
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8"))


def _annotations(section: str, name: str | None) -> dict[str, str] | None:
    """The options of a part: flat key to annotation. None for a custom part."""
    module, _, attribute = part_target(section, name).partition(":")
    if name is not None and is_own(name):
        return None
    chosen = CHOSEN.get(section)
    reserved = () if chosen is None else chosen.reserved
    options = dict(_options(module, attribute))
    if chosen is not None and chosen.common is not None:
        common_module, _, common = chosen.common.partition(":")
        options = {**dict(_options(common_module, common)), **options}
    return {f"{section}.{option}": annotation for option, annotation in options.items() if option not in reserved}


def _options(module: str, attribute: str) -> Iterator[tuple[str, str]]:
    """The options of a function or class with their annotations: keyword-only arguments, or the fields of a dataclass.

    The fields of the base classes come first.
    """
    for node in _tree(module).body:
        if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == _PACKAGE:
            for alias in node.names:
                if (alias.asname or alias.name) == attribute:
                    yield from _options(str(node.module), alias.name)
        elif isinstance(node, ast.FunctionDef) and node.name == attribute:
            yield from map(_annotated, node.args.kwonlyargs)
        elif isinstance(node, ast.ClassDef) and node.name == attribute:
            yield from _options_of_class(module, node)


def _options_of_class(module: str, node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    members = {member.name: member for member in node.body if isinstance(member, ast.FunctionDef)}
    if "__init__" in members:
        yield from map(_annotated, members["__init__"].args.kwonlyargs)
        return
    for base in node.bases:
        if isinstance(base, ast.Name):
            yield from _options(module, base.id)
    if any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        for member in node.body:
            if isinstance(member, ast.AnnAssign) and not ast.unparse(member.annotation).startswith("ClassVar"):
                yield ast.unparse(member.target), ast.unparse(member.annotation)


def _annotated(argument: ast.arg) -> tuple[str, str]:
    return argument.arg, "" if argument.annotation is None else ast.unparse(argument.annotation)
