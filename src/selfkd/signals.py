"""Ctrl-C and SIGTERM end a run in the same orderly way. Batch systems send SIGTERM before they kill."""

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

__all__ = ["StopSignal", "interrupted", "leave", "leave_when_input_ends", "stopping_on_signals", "stops_deferred"]

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_CHILD_SIGNAL = getattr(signal, "SIGCHLD", None)  # Windows has none
_STANDARD_INPUT = 0
_KILLED_BY_SIGNAL = 128  # is added to the number of the signal
_RETRY_SECONDS = 0.05
_KILL_SECONDS = 5.0  # how long to wait for a killed process


class StopSignal(KeyboardInterrupt):
    """SIGINT or SIGTERM told this process to stop. It is raised in whatever code is running, as Ctrl-C is.

    Args:
        number: number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def stopping_on_signals() -> Iterator[None]:
    """Raise `StopSignal` once on SIGINT or SIGTERM. Later signals are ignored, so that nothing breaks off the ending.

    A signal that was ignored before stays ignored: a shell ignores Ctrl-C for its background jobs. Outside the main
    thread Python allows no handlers, so nothing changes there. An error that follows the signal is raised as the
    `StopSignal`, because it is most likely a consequence.
    """
    received: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        received.append(number)
        for each in _STOP_SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        if _CHILD_SIGNAL is not None and callable(signal.getsignal(_CHILD_SIGNAL)):
            # The same signal kills the loader's processes. torch's handler would raise an error for each, even when
            # Python exits. Without the handler torch still finds a killed process, because its loaders check for it.
            signal.signal(_CHILD_SIGNAL, _do_nothing)
        raise StopSignal(number)

    def stop_again(unraisable: sys.UnraisableHookArgs) -> None:
        """Send the signal again where Python ignores every error, as in a `__del__` or while it forks."""
        if not isinstance(unraisable.exc_value, StopSignal):
            former_hook(unraisable)
            return
        signal.signal(received[0], stop)
        threading.Timer(_RETRY_SECONDS, os.kill, (os.getpid(), received[0])).start()

    with _handling_stops(stop):
        former_hook, sys.unraisablehook = sys.unraisablehook, stop_again
        try:
            yield
        except Exception as error:
            if received and not isinstance(error, RunInterruptedError):
                raise StopSignal(received[0]) from error
            raise
        finally:
            sys.unraisablehook = former_hook


@contextmanager
def stops_deferred() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back until the block ends, then raise the first one again."""
    received: list[int] = []
    with _handling_stops(lambda number, frame: received.append(number)):
        yield
    if received:
        signal.raise_signal(received[0])


def interrupted(error: BaseException, said: str) -> RunInterruptedError | None:
    """The `RunInterruptedError` for an error that an interruption caused; for example, torch's file writer raises one.

    Args:
        error: the error that ended the work.
        said: the message of the new error.
    Returns: None if no interruption caused the error.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, KeyboardInterrupt):
            return RunInterruptedError(said, getattr(cause, "number", signal.SIGINT))
        cause = cause.__cause__ or cause.__context__
    return None


def leave(status: int) -> NoReturn:
    """End the process at once, after a signal told it to stop. Its child processes are killed.

    A normal exit of Python could wait for processes that no longer exist, or print errors about them.

    Args:
        status: the exit status.
    """
    for child in multiprocessing.active_children():
        child.kill()
        child.join(_KILL_SECONDS)
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # its reader may be gone
            stream.flush()
    os._exit(status)


def leave_when_input_ends() -> None:
    """From now on, end this process at once when its standard input ends.

    If the standard input is a pipe from the process that started this one, this one never outlives the other.
    """

    def wait() -> None:
        with suppress(OSError):
            while os.read(_STANDARD_INPUT, 1):
                pass
        leave(_KILLED_BY_SIGNAL + signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


@contextmanager
def _handling_stops(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Call `handler` on SIGINT and SIGTERM in this block, unless they are ignored."""
    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.getsignal(number) for number in _STOP_SIGNALS}
        before = {number: former for number, former in handlers.items() if former is not signal.SIG_IGN}
    owner = os.getpid()

    def handle(number: int, frame: FrameType | None) -> None:
        if os.getpid() == owner:
            handler(number, frame)
        else:  # a process forked from this one, such as one that reads images, ends without a message
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, signal.SIG_DFL if former is None else former)


def _do_nothing(number: int, frame: FrameType | None) -> None:
    pass
