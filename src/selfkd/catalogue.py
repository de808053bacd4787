"""Tables of names, one line for each member. They can be read without importing the members."""

from __future__ import annotations

import functools
import importlib
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from selfkd.errors import UnknownNameError, UserError

__all__ = ["Catalogue", "Entry", "import_target", "is_own", "place_of"]

_OWN_MARK = ":"
# Files without custom code: this package, and the modules with which Python imports.
_NOT_OWN = (f"{Path(__file__).parent}{os.sep}", f"{Path(importlib.__file__).parent}{os.sep}", "<frozen importlib")


@dataclass(frozen=True)
class Entry:
    """One member: `target` is `module:attribute`, `summary` one line for `selfkd list`.

    The target takes `arguments` before all others; so one constructor gives several members.
    """

    target: str
    summary: str
    arguments: tuple[Any, ...] = ()


class Catalogue(Mapping[str, Entry]):
    """The members of one kind, by name.

    Args:
        kind: what the members are, in the singular ("method").
        entries: name to entry.
        listing: how a user can see all names.
        takes_own: whether `package.module:Name` is allowed as a custom member.
        missing: names that a user may expect, but that have no member, each with the reason.
    """

    def __init__(
        self,
        kind: str,
        entries: Mapping[str, Entry],
        listing: str,
        takes_own: bool = False,
        missing: Mapping[str, object] | None = None,
    ) -> None:
        self.kind = kind
        self.listing = listing
        self.takes_own = takes_own
        self._entries = dict(entries)
        self._missing = dict(missing or {})

    def __getitem__(self, name: str) -> Entry:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def target(self, name: str) -> str:
        """`module:attribute` of a member; for a custom member the name itself. Imports nothing.

        Raises:
            UnknownNameError: if the table has no such name (the message gives the nearest).
            UserError: if the name has no member for a known reason.
        """
        if name in self._entries:
            return self._entries[name].target
        if name in self._missing:
            raise UserError(f"{self.kind} {name!r} is not here: {self._missing[name]}; {self.listing}")
        if self.takes_own and is_own(name):
            return name
        raise UnknownNameError(self.kind, name, self._entries, self.listing)

    def load(self, name: str) -> Any:
        """Import the class or function of a name, or `package.module:Name` if the table takes custom members.

        Raises:
            UnknownNameError: if the table has no such name (the message gives the nearest).
            UserError: if `package.module:Name` cannot be imported.
        """
        target = self.target(name)
        if name in self._entries:
            arguments = self._entries[name].arguments
            return functools.partial(import_target(target), *arguments) if arguments else import_target(target)
        try:
            _search_working_folder()
            return import_target(target)
        except (Exception, SystemExit) as error:  # a custom module may fail in any way
            reason = f"{type(error).__name__}: {error}{place_of(error.__traceback__)}"
            raise UserError(f"{self.kind} {name!r} cannot be imported: {reason}") from error


def _search_working_folder() -> None:
    """From now on, look for modules in the working folder, too, after all other places.

    Called only for custom members. Otherwise a file in that folder would run when an optional package is missing.
    """
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.append(folder)


def is_own(name: str) -> bool:
    """Whether a name is that of a custom member, `package.module:Name`."""
    return _OWN_MARK in name


def import_target(target: str) -> Any:
    """Import `module:attribute`."""
    module, _, attribute = target.partition(_OWN_MARK)
    return getattr(importlib.import_module(module), attribute)


def place_of(trace: TracebackType | None) -> str:
    """` (file, line n)` of the custom code that raised an error; empty if no custom code was reached.

    Args:
        trace: traceback of the error.
    """
    frames = [frame for frame in traceback.extract_tb(trace) if not frame.filename.startswith(_NOT_OWN)]
    # Deeper frames may belong to a library that the custom code calls; the first file that is not ours is custom.
    own = [frame for frame in frames if frame.filename == frames[0].filename]
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
