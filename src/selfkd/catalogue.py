"""Tables of names: one line per member, readable without importing what the names stand for."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfkd.errors import UnknownNameError, UserError

__all__ = ["Catalogue", "Entry", "import_target"]


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
        takes_own: whether `package.module:Name` gives somebody's own member.
    """

    def __init__(self, kind: str, entries: Mapping[str, Entry], listing: str, takes_own: bool = False) -> None:
        self.kind = kind
        self.listing = listing
        self.takes_own = takes_own
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> Entry:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def load(self, name: str) -> Any:
        """The class or function of that name, or of `package.module:Name` where the table takes somebody's own.

        Raises:
            UnknownNameError: if the table has no such name (the message gives the nearest).
            UserError: if `package.module:Name` cannot be imported.
        """
        if name in self._entries:
            return import_target(self._entries[name].target)
        if self.takes_own and ":" in name:
            try:
                with _working_folder_searched():
                    return import_target(name)
            except Exception as error:  # somebody's module may fail in any way while it is imported
                reason = f"{type(error).__name__}: {error}"
                raise UserError(f"{self.kind} {name!r} cannot be imported: {reason}") from error
        raise UnknownNameError(self.kind, name, self._entries, self.listing)


@contextmanager
def _working_folder_searched() -> Iterator[None]:
    """Look for modules in the working folder too, as `python -m` does, but after all other places and only for now:
    always, whatever lies there would run where an optional package is looked for in vain."""
    folder = str(Path.cwd())
    if folder in sys.path:
        yield
        return
    sys.path.append(folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def import_target(target: str) -> Any:
    """What `module:attribute` names."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)
