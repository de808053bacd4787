"""Read the YAML of recipes: flat mappings of plain values, with limits that no real recipe reaches.

Only plain decimals are numbers. YAML 1.1 also has other numbers and dates (`010` for 8, `1:30` for 90, `1_000`, `0x1F`,
`2024-01-01`). Here they stay texts, so that they can be names of classes or folders. An option for a number refuses
them.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from selfkd.errors import RecipeError, shown

__all__ = ["Budget", "is_other_number", "is_plain_number", "list_value", "read_mapping"]

_LARGEST_FILE = 2**20  # bytes of a recipe with all its includes
_MOST_FILES = 64
_MOST_VALUES = 20_000
_MOST_ALIASES = 100
_DEEPEST = 10

_INTEGER = r"[-+]?(?:0|[1-9][0-9]{0,30})"
_DECIMAL = r"[-+]?(?:(?:0|[1-9][0-9]*)\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
_PLAIN_NUMBER = re.compile(rf"[-+]?(?:0|[1-9][0-9]*)(?:[eE][-+]?[0-9]+)?|{_DECIMAL}")
_LIKE_A_NUMBER = re.compile(r"[-+]?[.0-9][-+.:\w]{0,99}", re.ASCII)
# Values without quotes that are not texts: tag to their pattern and their first characters.
_RESOLVED = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (_INTEGER, list("-+0123456789")),
    "float": (_DECIMAL, list("-+.0123456789")),
}


@dataclass
class Budget:
    """The rest of the limits while a recipe and its includes are read."""

    files: int = _MOST_FILES
    bytes: int = _LARGEST_FILE
    values: int = _MOST_VALUES
    aliases: int = _MOST_ALIASES

    def take_file(self, name: str) -> None:
        """Count a recipe that is read or included.

        Raises: RecipeError: if there are too many.
        """
        self.files -= 1
        if self.files < 0:
            raise RecipeError(f"{shown(name)} is one include too many; a recipe may read {_MOST_FILES} files in all")


class _RefusedError(yaml.MarkedYAMLError):
    """YAML that a recipe must not have."""


class _Loader(yaml.SafeLoader):
    """A SafeLoader with limits, without tags, and without keys that are given twice."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (a variable of the class in PyYAML)

    def __init__(self, text: str, budget: Budget) -> None:
        super().__init__(text)
        self._budget = budget
        self._depth = 0
        self._collections: set[str | None] = set()

    def get_event(self) -> yaml.Event:
        """The next event. It is counted before a value is built from it."""
        event: yaml.Event = super().get_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.CollectionStartEvent):
            self._depth += 1
            self._collections.add(event.anchor)
            self._refuse_if(self._depth > _DEEPEST, event, f"nested more than {_DEEPEST} levels deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            self._depth -= 1
        elif isinstance(event, yaml.AliasEvent):
            self._budget.aliases -= 1
            self._refuse_if(
                event.anchor in self._collections, event, "an alias repeats a list or mapping; write it out"
            )
            self._refuse_if(self._budget.aliases < 0, event, f"more than {_MOST_ALIASES} aliases")
        if isinstance(event, yaml.NodeEvent):
            self._budget.values -= 1
            self._refuse_if(self._budget.values < 0, event, f"more than {_MOST_VALUES} values")
            self._refuse_if(getattr(event, "tag", None) is not None, event, "tags (!) have no meaning in a recipe")
        return event

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping whose keys all differ. PyYAML would use the last of two equal keys without a message."""
        counts = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for key, count in counts.items():
            self._refuse_if(count > 1, node, f"{key} is given twice")
        return super().construct_mapping(node, deep)

    def _refuse_if(self, wrong: bool, place: Any, problem: str) -> None:
        if wrong:
            raise _RefusedError(problem=problem, problem_mark=place.start_mark)


for _tag, (_pattern, _first) in _RESOLVED.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), _first)


def read_mapping(path: Path, budget: Budget) -> dict[str, Any]:
    """Read a YAML file that holds one mapping.

    Args:
        path: path of the file.
        budget: the rest of the limits; the file's size and values are subtracted.
    Raises: RecipeError: if it cannot be read, is not a mapping of texts to values, or exceeds the limits.
    """
    try:
        place = path.expanduser()
        if place.exists() and not place.is_file():
            raise RecipeError(f"{path} cannot be read as a recipe: it is not a file")
        with place.open("rb") as file:
            content = file.read(budget.bytes + 1)
        budget.bytes -= len(content)
        if budget.bytes < 0:
            raise RecipeError(f"{path} cannot be read as a recipe: with its includes it has over {_LARGEST_FILE} bytes")
        mapping = _constructed(content.decode(), budget)
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} cannot be read as a recipe: {_said(error)}") from error
    except (OSError, ValueError, RuntimeError) as error:  # also a null byte or an unknown user in the path, no UTF-8
        raise RecipeError(f"{shown(str(path))} cannot be read as a recipe: {error}") from error
    if not isinstance(mapping, dict) or not all(isinstance(key, str) for key in mapping):
        raise RecipeError(f"{path} must hold one mapping of flat keys, for example 'method: dtskd'")
    return mapping


def list_value(text: str) -> list[Any] | None:
    """The list that the text of an override writes as `[...]`; None if it is not a list.

    Raises: RecipeError: if the list exceeds a limit; the message names the limit.
    """
    if not text.lstrip().startswith("["):
        return None
    try:
        value = _constructed(text, Budget())
    except _RefusedError as error:
        raise RecipeError(_said(error)) from error
    except yaml.YAMLError:
        return None
    return value if isinstance(value, list) else None


def is_plain_number(text: str) -> bool:
    """Whether a text is a number in plain decimals, as recipes need it."""
    return _PLAIN_NUMBER.fullmatch(text.strip()) is not None


def is_other_number(text: str) -> bool:
    """Whether a text is a number of YAML 1.1 or Python that is not a plain decimal: `010`, `1:30`, `1_000`."""
    if is_plain_number(text) or _LIKE_A_NUMBER.fullmatch(text.strip()) is None:
        return False
    try:
        return isinstance(yaml.safe_load(text), int | float)
    except (yaml.YAMLError, ValueError):  # a date that does not exist
        return False


def _constructed(text: str, budget: Budget) -> Any:
    loader = _Loader(text, budget)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _said(error: yaml.YAMLError) -> str:
    """The message of a YAML error, on one line."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(error).split())
    said = " ".join(filter(None, (getattr(error, "context", None), getattr(error, "problem", None))))
    return f"line {mark.line + 1}, column {mark.column + 1}: {said}"
