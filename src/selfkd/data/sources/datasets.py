"""A user's own `torch.utils.data.Dataset`, given in Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch

from selfkd.data.listing import Listing, Problem, SplitNames
from selfkd.data.reading.dataset_images import DatasetSamples, dataset_name
from selfkd.data.sources.own_images import StreamedImages
from selfkd.data.sources.split_names import find_splits
from selfkd.errors import DataError, OptionError

__all__ = ["DatasetObjects"]

_UNSPLIT = SplitNames("all images")


@dataclass(frozen=True, kw_only=True)
class DatasetObjects(StreamedImages):
    """A map-style `torch.utils.data.Dataset` of pairs (image, label), or a mapping from names of splits to such ones.

    Labels are whole numbers from 0. Class names are those of the Dataset's attribute `classes`, or the numbers.

    Args:
        given: the Dataset or the mapping, which a Python caller passes; a recipe cannot hold it. Without it, nothing
            can be read, but images can be prepared for the network.
    Raises: OptionError: if a value is out of range.
    """

    class_name_origin = "the Dataset's attribute classes, or numbers"
    root_is_folder: ClassVar[bool] = False
    """Only the user's own class knows what its argument root means."""

    given: Any = field(default=None, repr=False, compare=False)

    def datasets(self) -> Any:
        """The Dataset, or the mapping from names of splits to Datasets.

        Raises: DataError: if there is none.
        """
        if self.given is None:
            raise DataError(
                "data=dataset needs the Dataset object, which no file holds; pass it again in Python: "
                "selfkd.train(RECIPE, data=DATASET) trains, and selfkd.load(RUN, data=DATASET).evaluate() evaluates a "
                "split. On the command line, data=package.module:Class names a class or function that gives it"
            )
        return self.given

    def listing(self, seed: int) -> Listing:
        datasets = self.datasets()
        if isinstance(datasets, Mapping):
            names = find_splits(datasets, self.train_split, self.test_split, "the mapping of Datasets")
            samples = {name: DatasetSamples(dataset_name(datasets[name], name), datasets[name]) for name in names.used}
        else:
            reason = f"{dataset_name(datasets)} has no splits; give a mapping from names of splits to Datasets"
            self._refuse_split_names(reason)
            names = _UNSPLIT
            samples = {names.train: DatasetSamples(dataset_name(datasets), datasets)}
        for each in samples.values():
            if not len(each):
                raise DataError(f"{each.name} is empty; it must hold samples (image, label)")
        class_names = _class_names(list(samples.values()))
        splits = {
            name: each.images(torch.from_numpy(each.labels.copy()), self.image_transform(), self.side)
            for name, each in samples.items()
        }
        return Listing(class_names, names, splits, tuple(_label_problems(samples)))

    def _refuse_split_names(self, reason: str) -> None:
        """Refuse options that name splits where the user cannot choose them.

        Raises: OptionError: with the reason.
        """
        for option in ("train_split", "test_split"):
            if getattr(self, option) is not None:
                raise OptionError(f"data.{option}", getattr(self, option), reason=reason)


def _class_names(samples: Sequence[DatasetSamples]) -> tuple[str, ...]:
    """The names of the classes in label order; their numbers if the Datasets do not name every label.

    Args:
        samples: of all splits; the training split comes first.
    Raises: DataError: if splits name other classes, or a label is too large to count classes.
    """
    named = [each for each in samples if each.class_names is not None]
    for each in named:
        if each.class_names != named[0].class_names:
            raise DataError(f"{named[0].name} and {each.name} name other classes, or in another order")
    largest = max(each.largest_label for each in samples)
    if named and named[0].class_names is not None and largest < len(named[0].class_names):
        return named[0].class_names
    if largest >= sum(map(len, samples)):
        raise DataError(
            f"{samples[0].name} has the label {largest}, but fewer samples; labels must count the classes 0, 1, 2 and "
            "so on"
        )
    return tuple(map(str, range(largest + 1)))


def _label_problems(samples: Mapping[str, DatasetSamples]) -> list[Problem]:
    """The labels below 0. `_class_names` refuses those that are too large."""
    places = [
        f"{each.place(index)} has {each.labels[index]}"
        for each in samples.values()
        for index in np.flatnonzero(each.labels < 0).tolist()
    ]
    message = f"labels below 0: {len(places)}; a label must be a whole number from 0"
    return [Problem("labels", message, tuple(places))] if places else []
