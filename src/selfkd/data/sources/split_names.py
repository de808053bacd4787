"""Which of a data set's splits trains, which chooses the best epoch, and which tests, by their usual names."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from selfkd.errors import DataError, OptionError

__all__ = ["SPLIT_NAMES", "TRAIN_NAMES", "SplitNames", "assigned"]

TRAIN_NAMES = ("train", "training")
_VALIDATION_NAMES = ("validation", "valid", "val", "dev")
_TEST_NAMES = ("test", "testing")
SPLIT_NAMES = (*TRAIN_NAMES, *_VALIDATION_NAMES, *_TEST_NAMES)
"""What the splits of data sets are usually called, in lower case."""


@dataclass(frozen=True)
class SplitNames:
    """A data set's own names for its splits.

    Args:
        train: is trained on.
        test: is reported, or None where there is none.
        validation: chooses the best epoch, or None where there is none.
    """

    train: str
    test: str | None
    validation: str | None

    @property
    def used(self) -> tuple[str, ...]:
        """Those there are."""
        return tuple(name for name in (self.train, self.validation, self.test) if name is not None)


def assigned(available: Collection[str], train: str | None, test: str | None, where: str) -> SplitNames:
    """The splits given, and for what is not given those of the usual names.

    A validation split tests where there is no test split, as in ImageNet; beside one, it chooses the best epoch.

    Args:
        available: names of the splits there are.
        train: the option `data.train_split`, or None to find it.
        test: the option `data.test_split`, or None to find it.
        where: what the errors call the data set.
    Raises:
        OptionError: if a given name is not there, or both are the same.
        DataError: if no training split is found.
    """
    allowed = f"one of {', '.join(sorted(available))}, the splits of {where}"
    for option, name in (("data.train_split", train), ("data.test_split", test)):
        if name is not None and name not in available:
            raise OptionError(option, name, allowed)
    train = train or _first(TRAIN_NAMES, available)
    if train is None:
        raise DataError(f"{where} has no split called train; name the one to train on, data.train_split=..., {allowed}")
    if test == train:
        raise OptionError("data.test_split", test, f"another split than data.train_split={train}")
    others = set(available) - {train}
    test = test or _first((*_TEST_NAMES, *_VALIDATION_NAMES), others)
    return SplitNames(train, test, _first(_VALIDATION_NAMES, others - {test}))


def _first(usual: Iterable[str], available: Collection[str]) -> str | None:
    by_lower_case = {name.lower(): name for name in sorted(available)}
    return next((by_lower_case[name] for name in usual if name in by_lower_case), None)
