"""The usual names of splits, and which split trains, tests and chooses the best epoch by its name."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from selfkd.data.listing import SplitNames
from selfkd.errors import DataError, OptionError

__all__ = ["SPLIT_NAMES", "TRAIN_NAMES", "find_splits", "usual_test_split"]

TRAIN_NAMES = ("train", "training")
_VALIDATION_NAMES = ("validation", "valid", "val", "dev")
_TEST_NAMES = ("test", "testing")
SPLIT_NAMES = (*TRAIN_NAMES, *_VALIDATION_NAMES, *_TEST_NAMES)
"""The usual names of splits, in lower case."""


def find_splits(available: Collection[str], train: str | None, test: str | None, where: str) -> SplitNames:
    """The splits with the given names, and for a name that is None the split with the usual name.

    A validation split tests if there is no test split, as in ImageNet. Beside a test split, it chooses the best epoch.

    Args:
        available: names of all splits.
        train: the option `data.train_split`, or None to find it.
        test: the option `data.test_split`, or None to find it.
        where: the data set's name in errors.
    Raises:
        OptionError: if there is no split of a given name, or both names are the same.
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
    test = test or usual_test_split(others)
    return SplitNames(train, test, _first(_VALIDATION_NAMES, others - {test}))


def usual_test_split(available: Collection[str]) -> str | None:
    """The split that tests by its name: the one with a usual name of a test split, else of a validation split."""
    return _first((*_TEST_NAMES, *_VALIDATION_NAMES), available)


def _first(usual: Iterable[str], available: Collection[str]) -> str | None:
    by_lower_case = {name.lower(): name for name in sorted(available)}
    return next((by_lower_case[name] for name in usual if name in by_lower_case), None)
