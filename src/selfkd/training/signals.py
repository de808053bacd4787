"""Ctrl-C and SIGTERM, as batch systems send it before they kill: both end a run in the same orderly way."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

from selfkd.errors import RunInterruptedError

__all__ = ["StopSignal", "interrupted", "leave", "stopping_on_signals", "stops_deferred"]

_STOPPING = (signal.SIGINT, signal.SIGTERM)
_CHILD_ENDED = getattr(signal, "SIGCHLD", None)  # not on Windows
_AGAIN_SECONDS = 0.05
_KILLED_SECONDS = 5.0  # that a killed process may take to be gone


class StopSignal(KeyboardInterrupt):
    """Raised where the process stands when it is told to stop; goes the way of Ctrl-C.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def stopping_on_signals() -> Iterator[None]:
    """Raise `StopSignal` once on SIGINT or SIGTERM; further ones are ignored, so that the ending is not broken off.

    A signal that was ignored stays so, as a shell ignores Ctrl-C for its jobs in the background. Outside the main
    thread, where Python allows no handlers, all stay as they are. What fails after the stop has come is taken as its
    consequence.
    """
    came: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        came.append(number)
        for each in _STOPPING:
            signal.signal(each, signal.SIG_IGN)
        if _CHILD_ENDED is not None and callable(signal.getsignal(_CHILD_ENDED)):
            # torch would raise, even at Python's end, that a process that reads was killed: by the same signal. For
            # later loaders it finds that out by asking, too.
            signal.signal(_CHILD_ENDED, _unheeded)
        raise StopSignal(number)

    def stop_again(unraisable: sys.UnraisableHookArgs) -> None:
        """Where Python ignores every error, as while it forks and in a `__del__`, the stop would be lost."""
        if not isinstance(unraisable.exc_value, StopSignal):
            ignored_before(unraisable)
            return
        signal.signal(came[0], stop)
        threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), came[0])).start()

    with _handled_by(stop):
        ignored_before, sys.unraisablehook = sys.unraisablehook, stop_again
        try:
            yield
        except Exception as error:
            if came and not isinstance(error, RunInterruptedError):
                raise StopSignal(came[0]) from error
            raise
        finally:
            sys.unraisablehook = ignored_before


@contextmanager
def stops_deferred() -> Iterator[None]:
    """Let SIGINT and SIGTERM wait until the end; then the first that came takes the way it would have taken."""
    came: list[int] = []
    with _handled_by(lambda number, frame: came.append(number)):
        yield
    if came:
        signal.raise_signal(came[0])


def interrupted(error: BaseException, said: str) -> RunInterruptedError | None:
    """The error of ours for an error that is or only followed from an interruption, as one of torch's file writer does.

    Args:
        error: what came out of the work.
        said: the message.
    Returns: None if nothing was interrupted.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, KeyboardInterrupt):
            return RunInterruptedError(said, getattr(cause, "number", signal.SIGINT))
        cause = cause.__cause__ or cause.__context__
    return None


def leave(status: int) -> NoReturn:
    """End the process at once, after a stop.

    What Python does at its end may wait for processes that are gone, or complain of them; those left are killed.

    Args:
        status: the exit status.
    """
    for child in multiprocessing.active_children():
        child.kill()
        child.join(_KILLED_SECONDS)
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    os._exit(status)


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """SIGINT and SIGTERM, unless ignored, go to `handler` for a while."""
    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in _STOPPING}
    handled = [number for number, former in before.items() if former is not signal.SIG_IGN]
    owner = os.getpid()

    def handle(number: int, frame: FrameType | None) -> None:
        if os.getpid() == owner:
            handler(number, frame)
        else:  # a process forked from this one, such as one that reads images: it ends without a word
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    for number in handled:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, signal.SIG_DFL if before[number] is None else before[number])


def _unheeded(number: int, frame: FrameType | None) -> None:
    pass
