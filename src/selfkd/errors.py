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
    "UnfinishedRunsError",
    "UnfitDataError",
    "UnknownNameError",
    "UnlabelledImagesError",
    "UnreadableImageError",
    "UserError",
    "WeightsError",
    "WorkerKilledError",
    "few",
    "first_line",
    "shown",
]

_LONGEST_VALUE = 200  # so that a path of some folders is shown whole
_MOST_NAMES = 5


def shown(value: object) -> str:
    """A value as an error shows it: as Python writes it, cut if it is long. Never fails."""
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
    """The first line of an error's message; its type if the message is empty."""
    said = (line.strip() for line in str(error).splitlines())
    return next(filter(None, said), type(error).__name__)


class SelfKDError(Exception):
    """The base class of this library's errors. The command ends with `exit_status`."""

    exit_status = 1


class UserError(SelfKDError):
    """The user's input cannot be used."""

    exit_status = 2


class UnknownNameError(UserError, LookupError):
    """A name that does not exist.

    Args:
        kind: what the name should stand for, in the singular ("method").
        name: the name that was given.
        known: the names that exist; the message gives the nearest of them.
        listing: how the user can see all names.
        near: the nearest names, if the caller knows better than their spelling tells.
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
        value: the value that was given; None if none was.
        allowed: the allowed values, in words that follow "must be".
        reason: a whole sentence, if the mistake is not a value outside a range: what is wrong, and what to do.
    """

    def __init__(self, option: str, value: object, allowed: str = "", *, reason: str = "") -> None:
        is_switch = value is True and option.startswith("--")  # the user wrote no value
        given = option if is_switch else f"{option}={shown(value)}"
        if value is None and not reason:
            super().__init__(f"{option} is missing; it must be {allowed}")
        else:
            super().__init__(f"{given} is not allowed; {reason or f'{option} must be {allowed}'}")
        self.option, self.value, self.allowed, self.reason = option, value, allowed, reason

    def renamed(self, option: str) -> OptionError:
        """The same error under the name that the user knows the option by."""
        return OptionError(option, self.value, self.allowed, reason=self.reason)


class RecipeError(UserError):
    """A recipe or an override that cannot be used."""


class DataError(UserError):
    """Data that is missing, cannot be read, or does not fit the recipe."""


class UnreadableImageError(DataError):
    """An image that cannot be read."""


class BatchError(UserError, ValueError):
    """A batch that lacks what the method needs."""


class BackboneError(UserError):
    """A network that lacks what its user needs."""


class RunError(UserError):
    """A run folder that cannot be used for this."""


class CheckpointError(SelfKDError):
    """A checkpoint of a run that is damaged or belongs to something else."""


class WeightsError(UserError):
    """A file of weights that the user gave, and that is damaged or belongs to another network."""


class StorageError(SelfKDError):
    """A file that cannot be written."""


class NonFiniteLossError(SelfKDError):
    """A loss term, a weight or a logit is NaN or infinite."""


class ParityError(SelfKDError):
    """An exported network that does not give the logits of the trained network."""


class UnfinishedRunsError(SelfKDError):
    """Some of several runs are not finished; all others are."""


class UnfitDataError(SelfKDError):
    """A data set on which a training would fail."""


class UnlabelledImagesError(SelfKDError):
    """Some images could not be read; all others were labelled."""


class WorkerKilledError(SelfKDError):
    """The system killed a process that read images. The run can be continued."""


class ProcessLostError(SelfKDError):
    """One of several processes that train together was killed. The run can be continued."""


class RunInterruptedError(SelfKDError):
    """The run was stopped by a signal. It can be continued.

    Args:
        message: how far the run is.
        number: number of the signal: 2 for Ctrl-C, 15 for the SIGTERM of a batch system.
    """

    exit_status = 130

    def __init__(self, message: str, number: int = 2) -> None:
        super().__init__(message)
        self.exit_status = 128 + number


class MemoryExhaustedError(SelfKDError):
    """The device that trains, or the machine, has too little memory. The run can be continued."""
