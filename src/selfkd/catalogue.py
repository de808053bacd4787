"""Tables of names: one line per member, readable without importing what the names stand for."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from selfkd.errors import UnknownNameError, UserError

__all__ = ["Catalogue", "Entry"]


@dataclass(frozen=True)
class Entry:
    """One member: `target` is `module:attribute`, `summary` one line for `selfkd list`."""

    target: str
    summary: str


class Catalogue(Mapping[str, Entry]):
    """The members of one kind, by name.

    Args:
        kind: what the members are, in the singular ("method").
        entries: name to entry.
        listing: what a user can do to see all names.
    """

    def __init__(self, kind: str, entries: Mapping[str, Entry], listing: str) -> None:
        self.kind = kind
        self.listing = listing
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> Entry:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def load(self, name: str) -> Any:
        """The class or function of that name; `package.module:Name` takes anybody's own.

        Raises:
            UnknownNameError: if the table has no such name (the message gives the nearest).
            UserError: if `package.module:Name` cannot be imported.
        """
        if name in self._entries:
            return _import(self._entries[name].target)
        if ":" in name:
            try:
                return _import(name)
            except (ImportError, AttributeError) as error:
                raise UserError(f"{self.kind} {name!r} cannot be imported: {error}") from error
        raise UnknownNameError(self.kind, name, self._entries, self.listing)


def _import(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)
