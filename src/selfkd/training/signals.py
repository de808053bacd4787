"""Ctrl-C and SIGTERM, as batch systems send it before they kill: both end a run in the same orderly way."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from selfkd.errors import RunInterruptedError

__all__ = ["StopSignal", "interrupted", "stopping_on_signals"]

_STOPPING = (signal.SIGINT, signal.SIGTERM)


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

    Outside the main thread, where Python allows no handlers, signals stay as they are.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _STOPPING}
    for number in _STOPPING:
        signal.signal(number, _stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


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


def _stop(number: int, frame: FrameType | None) -> None:
    for each in _STOPPING:
        signal.signal(each, signal.SIG_IGN)
    raise StopSignal(number)
