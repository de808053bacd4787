"""The errors a user sees. Each message says what was expected, what came, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence

__all__ = [
    "BackboneError",
    "BatchError",
    "CheckpointError",
    "DataError",
    "MemoryExhaustedError",
    "NonFiniteLossError",
    "OptionError",
    "ParityError",
    "ProcessLostError",
    "RecipeError",
    "RunError",
    "RunInterruptedError",
    "SelfKDError",
    "StorageError",
    "UnfitDataError",
    "UnknownNameError",
    "UnlabelledImagesError",
    "UserError",
    "WorkerKilledError",
    "few",
    "first_line",
    "shown",
]

_LONGEST_VALUE = 200  # so that a path of some folders is shown whole
_MOST_NAMES = 5


def shown(value: object) -> str:
    """How an error shows a value: as Python writes it, cut where that is long. It never fails."""
    try:
        text = repr(value)
    except Exception:  # somebody's object, or a whole number of more digits than Python writes out
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 4]} ..."


def few(names: Sequence[str]) -> str:
    """The first names and the number of the others; "none" if there are no names."""
    if len(names) <= _MOST_NAMES:
        return ", ".join(names) or "none"
    return f"{', '.join(names[:_MOST_NAMES])} and {len(names) - _MOST_NAMES} more"


def first_line(error: BaseException) -> str:
    """The first line of what an error says; its type where it says nothing."""
    said = (line.strip() for line in str(error).splitlines())
    return next(filter(None, said), type(error).__name__)


class SelfKDError(Exception):
    """Base of every error of this library; the command ends with `exit_status`."""

    exit_status = 1


class UserError(SelfKDError):
    """What the user gave cannot be used."""

    exit_status = 2


class UnknownNameError(UserError, LookupError):
    """A name that is in none of our tables.

    Args:
        kind: what was looked up, in the singular ("method").
        name: the name that was given.
        known: the names that exist; the nearest are named in the message.
        listing: where to see all of them.
        near: the nearest, where the caller knows better than the spelling says.
    """

    def __init__(
        self, kind: str, name: str, known: Collection[str], listing: str, near: Sequence[str] | None = None
    ) -> None:
        if near is None:
            near = difflib.get_close_matches(name[:_LONGEST_VALUE], known, n=3, cutoff=0.5)
        hint = f"; nearest: {', '.join(near)}" if near else ""
        super().__init__(f"unknown {kind} {shown(name)}{hint}; {listing}")
        self.kind, self.name, self.near = kind, name, near


class OptionError(UserError, ValueError):
    """An option whose value is not allowed.

    Args:
        option: name of the option.
        value: what was given.
        allowed: the allowed values, in words.
    """

    def __init__(self, option: str, value: object, allowed: str) -> None:
        super().__init__(f"{option}={shown(value)} is not allowed; {option} must be {allowed}")
        self.option, self.value, self.allowed = option, value, allowed


class RecipeError(UserError):
    """A recipe or an override that cannot be resolved."""


class DataError(UserError):
    """Data that is missing, unreadable, or does not fit what was asked."""


class BatchError(UserError, ValueError):
    """A batch that does not hold what the method needs."""


class BackboneError(UserError):
    """A network that lacks a property which the caller needs."""


class RunError(UserError):
    """A run folder that cannot be used as asked."""


class CheckpointError(SelfKDError):
    """A checkpoint that is damaged or belongs to something else."""


class StorageError(SelfKDError):
    """A file that cannot be written."""


class NonFiniteLossError(SelfKDError):
    """A loss term, a weight or a logit became NaN or infinite."""


class ParityError(SelfKDError):
    """An exported network that does not give the same logits as the trained one."""


class UnfitDataError(SelfKDError):
    """A data set on which training would fail."""


class UnlabelledImagesError(SelfKDError):
    """Some of the images could not be read; the others are labelled."""


class WorkerKilledError(SelfKDError):
    """The system ended a process that read images; the run can be continued."""


class ProcessLostError(SelfKDError):
    """One of several processes that train together was killed; the run can be continued."""


class RunInterruptedError(SelfKDError):
    """The run was told to stop; it can be continued.

    Args:
        message: how far it is.
        number: of the signal: 2 for Ctrl-C, 15 for a batch system's SIGTERM.
    """

    exit_status = 130

    def __init__(self, message: str, number: int = 2) -> None:
        super().__init__(message)
        self.exit_status = 128 + number


class MemoryExhaustedError(SelfKDError):
    """The device that trains, or the machine, has too little memory; the run can be continued."""
