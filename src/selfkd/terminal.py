"""Safe output to terminal and log: a name from a file can neither move the cursor nor forge a line."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, TextIO, cast

from selfkd.errors import StorageError

__all__ = [
    "OutputClosedError",
    "as_message",
    "configure_logging",
    "log_shown",
    "printable",
    "safe_output",
    "write_exactly",
]

_NOT_PLAIN = re.compile(r"[^ -~]")
_NOT_PLAIN_BUT_LAYOUT = re.compile(r"[^ -~\n\r\t]")  # a table's lines, a progress bar's return
_LINES = 3
_LONGEST_LINE = 1000
_TAB = 4


class OutputClosedError(Exception):
    """The program that reads our standard output, such as `head`, has closed it."""


def printable(text: str) -> str:
    """A name for use within a line. Invisible characters are escaped as in Python's `repr`.

    These are line breaks, control codes, marks that change the direction of writing, and bytes that are not text.
    """
    return _NOT_PLAIN.sub(_escaped, text)


def as_message(text: str) -> str:
    """A printable message of at most three lines. All lines but the first are indented, so each message has one start.

    Tabs, which torch's messages contain, become spaces.
    """
    lines = [printable(line.expandtabs(_TAB)) for line in text.split("\n")]
    if len(lines) > _LINES:
        lines = [*lines[: _LINES - 1], f"{lines[_LINES - 1]} ..."]
    return "\n  ".join(line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}..." for line in lines)


def write_exactly(text: str) -> None:
    """Write text for a program to standard output. In a pipe or a file, only what the encoding lacks is escaped.

    On a terminal, all invisible characters are escaped as usual.
    """
    stream = sys.stdout
    if isinstance(stream, _SafeStream) and not stream.isatty():
        stream.write_exactly(text)
    else:
        stream.write(text)


@contextmanager
def safe_output() -> Iterator[None]:
    """Replace standard output and standard error by streams that cannot harm a terminal or fail unexpectedly.

    Both escape invisible characters, except line breaks and tabs, and characters that the encoding lacks. Output to a
    stream that was closed before the process began is dropped, and so is standard error that cannot be written. Errors
    that Python ignores are not shown, such as that of an object that was half built when the process was stopped.

    Raises, when standard output is written:
        OutputClosedError: if its reader has closed it.
        StorageError: if it cannot be written.
    """
    _fill_closed_descriptors()
    shown_before, sys.unraisablehook = sys.unraisablehook, lambda ignored: None
    try:
        with redirect_stdout(_safe(sys.stdout, needed=True)), redirect_stderr(_safe(sys.stderr, needed=False)):
            yield
    finally:
        sys.unraisablehook = shown_before


def configure_logging(level: int) -> None:
    """Show log messages on standard error. A message that cannot be formatted is left out.

    Args:
        level: least level of this library's messages; other libraries' messages are shown from warnings up.
    """
    logging.raiseExceptions = False  # otherwise such a message shows a traceback
    handler = logging.StreamHandler()
    handler.setFormatter(_MessageFormatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("selfkd").setLevel(level)


@contextmanager
def log_shown() -> Iterator[None]:
    """Show this library's log on standard error in this block, unless the program has set up logging.

    A script or a notebook that has not would see warnings alone. Nothing outside this library's own logger changes, and
    that only until the block ends.
    """
    log = logging.getLogger("selfkd")
    if log.hasHandlers():
        yield
        return
    handler, level = logging.StreamHandler(), log.level
    handler.setFormatter(_MessageFormatter("%(message)s"))
    log.addHandler(handler)
    log.setLevel(level or logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


class _MessageFormatter(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging names it so
        return as_message(super().formatMessage(record))


class _SafeStream:
    """Wraps a text stream; see `safe_output`.

    Args:
        stream: where the text goes.
        needed: whether a failed write is an error.
    """

    def __init__(self, stream: TextIO, needed: bool) -> None:
        self._stream = stream
        self._needed = needed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        self.write_exactly(_NOT_PLAIN_BUT_LAYOUT.sub(_escaped, text))
        return len(text)

    def write_exactly(self, text: str) -> None:
        encoding = self._stream.encoding or "utf-8"
        try:
            self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except OSError as error:
            self._give_up(error)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        with suppress(OSError):  # Python's last writes at its end are dropped
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        if not self._needed:
            return
        if isinstance(error, BrokenPipeError):
            raise OutputClosedError from error
        raise StorageError(f"the standard output cannot be written: {error.strerror}") from error


def _safe(stream: TextIO | None, needed: bool) -> TextIO:
    # Python has no stream where there was no descriptor.
    given = stream if stream is not None else Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # stays open
    return cast(TextIO, _SafeStream(given, needed))


def _fill_closed_descriptors() -> None:
    """Open the closed ones of standard input, output and error. Otherwise the next file that is opened, perhaps a
    checkpoint, would take their place, and our output would go into it."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest number that is free


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    return character if character.isprintable() else ascii(character)[1:-1]
