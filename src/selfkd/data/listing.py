"""What a data set consists of, found without opening an image. Training and the data doctor both start from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selfkd.data.splits import Split, Splits
from selfkd.errors import DataError, few

__all__ = ["Listing", "Problem", "SplitNames"]


@dataclass(frozen=True)
class SplitNames:
    """A data set's own names for its splits.

    Args:
        train: the split to train on.
        test: the split to report, or None if there is none.
        validation: the split that chooses the best epoch, or None if there is none.
    """

    train: str
    test: str | None = None
    validation: str | None = None

    @property
    def used(self) -> tuple[str, ...]:
        """The names that are not None."""
        return tuple(name for name in (self.train, self.validation, self.test) if name is not None)


@dataclass(frozen=True)
class Problem:
    """A reason to refuse a data set.

    Args:
        subject: what the problem is about, in a word or two: "layout", "classes", "labels".
        message: what is wrong and what to do.
        places: all folders, rows or classes with the problem; empty if the message names them.
    """

    subject: str
    message: str
    places: tuple[str, ...] = ()

    def error(self) -> DataError:
        """The problem as an error; a long list of places is cut."""
        return DataError(f"{self.message} ({few(self.places)})" if self.places else self.message)


@dataclass(frozen=True)
class Listing:
    """All images of a data set with their labels, bad ones included.

    Args:
        class_names: K names in label order; empty if the classes are unknown.
        names: which split trains, which tests and which chooses the best epoch.
        splits: images and labels by the data set's own name of the split. A label outside [0, K) is a problem.
        problems: the reasons to refuse the data set.
        class_folders: by split, the folder that holds one folder per class; empty if images are stored otherwise.
        left_out: files in class folders that are no images by their names, relative to the data set's folder.
    """

    class_names: tuple[str, ...]
    names: SplitNames
    splits: Mapping[str, Split] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    class_folders: Mapping[str, Path] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    @classmethod
    def of(cls, splits: Splits) -> Listing:
        """The listing of a data set that was read as a whole."""
        validation = None if splits.validation is None else "validation"
        return cls(splits.class_names, SplitNames("train", "test", validation), splits.by_name)

    @classmethod
    def unknown(cls, problem: Problem) -> Listing:
        """The listing of a data set of which nothing can be listed, because of a problem."""
        return cls((), SplitNames("train"), problems=(problem,))

    def check(self) -> None:
        """Refuse a data set with problems.

        Raises: DataError: the first problem.
        """
        if self.problems:
            raise self.problems[0].error()

    @cached_property
    def counts(self) -> dict[str, NDArray[np.int64]]:
        """Number of images of each class, `[K]`, by split; labels outside [0, K) are not counted."""
        num_classes = len(self.class_names)
        labels = {name: split.labels.numpy() for name, split in self.splits.items()}
        return {
            name: np.bincount(each[(each >= 0) & (each < num_classes)], minlength=num_classes)
            for name, each in labels.items()
        }

    def of_classes(self, kept: Sequence[int]) -> Listing:
        """The listing with some classes only.

        Args:
            kept: their labels, in the order of their new labels.
        """
        return replace(
            self,
            class_names=tuple(self.class_names[label] for label in kept),
            splits={name: split.of_classes(kept, len(self.class_names)) for name, split in self.splits.items()},
        )
