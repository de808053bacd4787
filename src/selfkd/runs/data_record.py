"""A run's record of its training data, from which its method is built again without the data.

The record is `data.json`. Older versions wrote less into it; then `scores.json` gives the rest.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from selfkd.contract import DatasetInfo
from selfkd.data.splits import Splits
from selfkd.errors import RunError, shown
from selfkd.runs.records import read_record, write_json
from selfkd.runs.run_folder import RunFolder

__all__ = [
    "class_names_of",
    "dataset_of",
    "read_fingerprint",
    "read_test_fingerprint",
    "read_version",
    "trained_on",
    "write_data_record",
]

_FEWEST_CLASSES = 2
_MOST_IMAGES = 10**10  # a damaged number must not ask for memory; LAION-5B, the largest public set, has 5.85 * 10**9


def write_data_record(folder: RunFolder, splits: Splits, dataset: DatasetInfo, version: str | None) -> None:
    """Write a run's record of its data.

    Args:
        folder: the run's folder.
        splits: the data.
        dataset: the description of the training set that the method gets.
        version: the version of selfkd that began the run; None if it is unknown.
    Raises: StorageError: if it cannot be written. DataError: if a file of the data is gone.
    """
    record: dict[str, Any] = {
        "fingerprint": splits.fingerprint(),
        "test_fingerprint": splits.test_fingerprint(),
        "class_names": dataset.class_names,
        "num_samples": dataset.num_samples,
        "input_size": dataset.input_size,
    }
    if dataset.labels is not None:
        record["labels"] = dataset.labels
    if version is not None:
        record["selfkd_version"] = version
    write_json(folder.data_file, record)


def trained_on(folder: RunFolder, splits: Splits) -> bool:
    """Whether a run was trained on this data; True where there is no record.

    Raises:
        RunError: if the record is damaged.
        DataError: if a newer version wrote the record, or a file of the data is gone.
    """
    fingerprint = read_fingerprint(folder)
    return fingerprint is None or splits.matches(fingerprint)


def read_fingerprint(folder: RunFolder) -> str | None:
    """The fingerprint of the data that a run was trained on; None where there is no record.

    Raises: RunError: if the record is damaged.
    """
    fingerprint = _fingerprint_in(folder, "fingerprint")
    if fingerprint is None and folder.data_file.exists():
        raise RunError(f"{folder.data_file} is damaged: it holds no fingerprint")
    return fingerprint


def read_test_fingerprint(folder: RunFolder) -> str | None:
    """The fingerprint of a run's test images; None where there is no record, or a record of an older version.

    Raises: RunError: if the record is damaged.
    """
    return _fingerprint_in(folder, "test_fingerprint")


def read_version(folder: RunFolder) -> str | None:
    """The version of selfkd that began a run; None if the run does not say so.

    Raises: RunError: if the record is damaged.
    """
    version = read_record(folder.data_file).get("selfkd_version") if folder.data_file.exists() else None
    if not isinstance(version, str | None):
        raise RunError(f"{folder.data_file} is damaged: its selfkd_version is {shown(version)}")
    return version


def class_names_of(folder: RunFolder) -> tuple[str, ...] | None:
    """K names of a run's classes in label order; None in a run that an older version left unfinished.

    Raises: RunError: if a file is damaged and no other file has the names.
    """
    damage: RunError | None = None
    for file in (folder.data_file, folder.scores_file):  # older versions wrote the names into the scores alone
        try:
            names = _class_names_in(file) if file.exists() else None
        except RunError as error:
            damage = damage or error
        else:
            if names is not None:
                return names
    if damage is not None:
        raise damage
    return None


def dataset_of(folder: RunFolder, input_size: tuple[int, int, int]) -> DatasetInfo | None:
    """The description of its training set that a run's method got; None in a run that an older version left unfinished.

    Where the record is damaged or lacks it, the scores of a finished run give it, without the labels.

    Args:
        folder: the run's folder.
        input_size: (channels, height, width) of the images of the run's recipe, which older records lack.
    Raises: RunError: if a file is damaged and no other file has it.
    """
    names = class_names_of(folder)
    if names is None:
        return None
    try:
        record = read_record(folder.data_file)
        if "num_samples" in record:
            return _dataset_in(folder.data_file, record, names, input_size)
    except RunError:
        if not folder.is_finished:
            raise
    num_samples = _num_samples_in_scores(folder) if folder.is_finished else None
    return None if num_samples is None else DatasetInfo(num_samples, len(names), names, input_size=input_size)


def _fingerprint_in(folder: RunFolder, key: str) -> str | None:
    """A fingerprint in the record; None where there is none.

    Raises: RunError: if the record is damaged.
    """
    fingerprint = read_record(folder.data_file).get(key) if folder.data_file.exists() else None
    if not isinstance(fingerprint, str | None):
        raise RunError(f"{folder.data_file} is damaged: its {key} is {shown(fingerprint)}")
    return fingerprint


def _class_names_in(file: Path) -> tuple[str, ...] | None:
    names = read_record(file).get("class_names")
    if names is None:
        return None
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise RunError(f"{file} is damaged: its class_names are not a list of names")
    if len(names) < _FEWEST_CLASSES:
        raise RunError(f"{file} is damaged: its class_names are fewer than {_FEWEST_CLASSES}")
    return tuple(names)


def _dataset_in(
    file: Path, record: dict[str, Any], names: tuple[str, ...], input_size: tuple[int, int, int]
) -> DatasetInfo:
    num_samples, labels = _checked_number(file, record["num_samples"]), record.get("labels")
    if record.get("input_size") != list(input_size):
        size, expected = shown(record.get("input_size")), list(input_size)
        raise RunError(f"{file} is damaged: its input_size is {size}, and the run's recipe gives {expected}")
    if labels is not None:
        known = range(len(names))
        are_labels = isinstance(labels, list) and all(type(label) is int and label in known for label in labels)
        if not are_labels or len(labels) != num_samples:
            raise RunError(f"{file} is damaged: its labels are not {num_samples} labels of {len(names)} classes")
        labels = tuple(labels)
    return DatasetInfo(num_samples, len(names), names, labels, input_size)


def _num_samples_in_scores(folder: RunFolder) -> int | None:
    scores = folder.scores()
    split = scores.get("splits", {}).get("train")
    if split is not None:
        return _checked_number(folder.scores_file, split["images"])
    heads = scores["last"]["scores"].get("train", {})
    counted = next((score["n"] for metrics in heads.values() for score in metrics.values()), None)
    return None if counted is None else _checked_number(folder.scores_file, counted)


def _checked_number(file: Path, number: object) -> int:
    if not (type(number) is int and 1 <= number <= _MOST_IMAGES):
        raise RunError(f"{file} is damaged: it says that the training set had {shown(number)} images")
    return number
