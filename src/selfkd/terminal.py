"""What a user sees in a terminal or a log: names from somebody's files cannot move the cursor or forge a line."""

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

__all__ = ["ReaderLeftError", "as_message", "configure_logging", "printable", "safe_output", "write_exactly"]

_NOT_PLAIN = re.compile(r"[^ -~]")
_NOT_PLAIN_BUT_LAYOUT = re.compile(r"[^ -~\n\r\t]")  # a table's lines, a progress bar's return
_LINES = 3
_LONGEST_LINE = 1000
_TAB = 4


class ReaderLeftError(Exception):
    """The program that reads our standard output, such as `head`, has seen enough."""


def printable(text: str) -> str:
    """A name as part of a line: what is no visible character is escaped as Python's `repr` escapes it.

    That is: line breaks, control codes, marks that change the direction of writing, and bytes that are no text.
    """
    return _NOT_PLAIN.sub(_escaped, text)


def as_message(text: str) -> str:
    """A message, printable, cut to three lines; those after the first are indented, so none looks like a message.

    Tabs, with which torch indents its lines, become spaces.
    """
    lines = [printable(line.expandtabs(_TAB)) for line in text.split("\n")]
    if len(lines) > _LINES:
        lines = [*lines[: _LINES - 1], f"{lines[_LINES - 1]} ..."]
    return "\n  ".join(line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}..." for line in lines)


def write_exactly(text: str) -> None:
    """Write to standard output what a program is to read: in a pipe or a file only what its encoding lacks is escaped.

    A terminal gets it as it gets everything.
    """
    stream = sys.stdout
    if isinstance(stream, _SafeStream) and not stream.isatty():
        stream.write_exactly(text)
    else:
        stream.write(text)


@contextmanager
def safe_output() -> Iterator[None]:
    """Let all that this process prints go through streams that cannot harm a terminal, nor fail unexpectedly.

    Both escape what is not printable, line breaks and tabs apart, and what the stream's encoding lacks. A stream that
    was closed before the process began is read by nobody, as if it went to /dev/null; so is a standard error that
    cannot be written. Errors that Python ignores, as that of an object half built when the process was told to stop,
    are not shown.

    Raises, where standard output is written:
        ReaderLeftError: if nobody reads it any more.
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
    """Show log messages on standard error, each as one message; one that cannot be formatted is left out.

    Args:
        level: of this library's; others' are shown from warnings up.
    """
    logging.raiseExceptions = False  # else such a message is shown as a traceback
    handler = logging.StreamHandler()
    handler.setFormatter(_MessageFormatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("selfkd").setLevel(level)


class _MessageFormatter(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return as_message(super().formatMessage(record))


class _SafeStream:
    """A text stream around another; see `safe_output`.

    Args:
        stream: where the text goes.
        needed: whether it is an error that it cannot be written.
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
        with suppress(OSError):  # what is still to be written, by Python at its end, goes nowhere
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        if not self._needed:
            return
        if isinstance(error, BrokenPipeError):
            raise ReaderLeftError from error
        raise StorageError(f"the standard output cannot be written: {error.strerror}") from error


def _safe(stream: TextIO | None, needed: bool) -> TextIO:
    # Python has no stream where there was no descriptor.
    given = stream if stream is not None else Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    return cast(TextIO, _SafeStream(given, needed))


def _fill_closed_descriptors() -> None:
    """Open what is closed of standard input, output and error: else the next file, a checkpoint perhaps, is opened in
    its place, and gets what is printed."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest number that is free


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    return character if character.isprintable() else ascii(character)[1:-1]
