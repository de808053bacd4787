"""Names of options, read from the sources of the parts: a slip of the pen is answered before torch is loaded.

What the reader knows of an option (its type, its default, its meaning) comes from the imported part. Its name, and
whether it takes numbers only, can be read from the source, since the options of every part of this package are its
keyword-only arguments or, for a dataclass, its fields.
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
# Words of other programs for what is written otherwise here.
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
# The words in annotations of what takes numbers only; without them nothing but brackets, commas and `|` is left.
_NUMERIC = frozenset({"None", "float", "int", "list", "tuple"})
_WORD = re.compile(r"\w+|[^\w\s,.|\[\]]")
_MOST = 3
_LONGEST_WORD = 100
_LONGEST_HINT = 40  # of a value that is repeated behind the right key


def option_names(section: str, name: str | None) -> tuple[str, ...] | None:
    """The options of a part as flat keys, without importing it; None for somebody's own, which must be imported first.

    Raises: UnknownNameError: if there is no such part.
    """
    annotations = _annotations(section, name)
    return None if annotations is None else tuple(annotations)


def numeric_options(section: str, name: str | None) -> tuple[str, ...]:
    """Those options of a part, as flat keys, that take nothing but numbers, lists of numbers, or null.

    None of somebody's own part is told, which must be imported first.

    Raises: UnknownNameError: if there is no such part.
    """
    annotations = _annotations(section, name) or {}
    return tuple(
        key for key, annotation in annotations.items() if annotation and set(_WORD.findall(annotation)) <= _NUMERIC
    )


@functools.cache
def every_key() -> tuple[str, ...]:
    """Every key that an override can have: sections, the options of all parts of the package, timm's, torchvision's."""
    keys = ["seed"]
    for section in ALWAYS:
        keys += option_names(section, None) or ()
    for section, chosen in CHOSEN.items():
        for name in (*chosen.catalogue, *(example for _, example in chosen.others)):
            keys += option_names(section, name) or ()
    return tuple(dict.fromkeys((*keys, *CHOSEN, "name")))


def unknown_option(key: str, value: object, known: Collection[str], listing: str = LISTING) -> UnknownNameError:
    """The error of a key that does not exist; it names the nearest of those that do.

    Args:
        key: that was written.
        value: that was written with it.
        known: the keys that exist.
        listing: where to see them.
    """
    near = nearest_keys(key, known)
    hints = [f"{each}={written(value)}" if len(str(value)) < _LONGEST_HINT else each for each in near]
    return UnknownNameError("option", key, known, listing, hints)


def nearest_keys(word: str, known: Collection[str]) -> list[str]:
    """Up to three keys that somebody may have meant, the likeliest first.

    Args:
        word: what was written instead.
        known: the keys to choose from: options, sections, `name`.
    """
    word = word[:_LONGEST_WORD].replace("-", "_")
    last = word.rpartition(".")[2]
    by_last: dict[str, list[str]] = {}
    for key in sorted(known, key=lambda key: "." in key):
        by_last.setdefault(key.rpartition(".")[2], []).append(key)
    joined = [key for key in known if key.replace(".", "_") == word.replace(".", "_")]
    same = [*joined, *by_last.get(last, []), *(key for key in _SYNONYMS.get(last, ()) if key in known)]
    if same:
        return list(dict.fromkeys(same))[:_MOST]
    alike_in_form = [key for key in known if ("." in key) or ("." not in word)]
    whole = difflib.get_close_matches(word, alike_in_form, n=_MOST, cutoff=0.5)
    alike = [key for near in difflib.get_close_matches(last, by_last, n=_MOST, cutoff=0.6) for key in by_last[near]]
    return list(dict.fromkeys(whole + alike if "." in word else alike + whole))[:_MOST]


@functools.cache
def _tree(module: str) -> ast.Module:
    path = Path(str(resources.files(_PACKAGE))).joinpath(*module.split(".")[1:])
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8"))


def _annotations(section: str, name: str | None) -> dict[str, str] | None:
    """The options of a part as flat keys, each with its annotation; None for somebody's own."""
    module, _, attribute = part_target(section, name).partition(":")
    if name is not None and is_own(name):
        return None
    reserved = CHOSEN[section].reserved if section in CHOSEN else ()
    options = [(option, annotation) for option, annotation in _options(module, attribute) if option not in reserved]
    return {f"{section}.{option}": annotation for option, annotation in options}


def _options(module: str, attribute: str) -> Iterator[tuple[str, str]]:
    """Keyword-only arguments of a function or of a class's `__init__`, each with its annotation as it is written.

    Of a dataclass its fields, its bases' first.
    """
    for node in _tree(module).body:
        if isinstance(node, ast.ImportFrom) and any((alias.asname or alias.name) == attribute for alias in node.names):
            imported = next(alias.name for alias in node.names if (alias.asname or alias.name) == attribute)
            if (node.module or "").partition(".")[0] == _PACKAGE:
                yield from _options(str(node.module), imported)
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
