"""What a run notes in files of its own, and how they are written and read."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast, get_type_hints

from jsonargparse import ArgumentParser

from selfkd.atomic_files import written_whole
from selfkd.contract import DatasetInfo, TeacherRecord
from selfkd.errors import RunError, shown
from selfkd.evaluation.scores import Scores
from selfkd.json_text import to_json

__all__ = [
    "EpochScores",
    "OwnBest",
    "RunScores",
    "Selection",
    "SplitRecord",
    "class_names_noted",
    "data_record",
    "dataset_noted",
    "images_trained_on",
    "read_json",
    "read_record",
    "read_scores",
    "read_teacher",
    "write_json",
    "write_teacher",
    "write_text",
]

_FEWEST_CLASSES = 2
_MOST_IMAGES = 10**10  # a damaged number must not ask for memory; LAION-5B, the largest public set, has 5.85 * 10**9
_ALWAYS_SCORED = ("recipe", "method", "selection", "last", "best", "seconds")


class EpochScores(TypedDict):
    """What an epoch's weights are worth: `epoch` counted from 1, `scores` by split."""

    epoch: int
    scores: dict[str, Scores]


class Selection(TypedDict):
    """How the best epoch was chosen.

    Keys: `rule` names the split; only epochs after `after_epoch` counted; `metric`, of the main head, and
    `higher_is_better`, its direction, which older runs do not note: theirs was top1.
    """

    rule: str
    after_epoch: int
    metric: NotRequired[str]
    higher_is_better: NotRequired[bool]


class OwnBest(TypedDict):
    """A head's best value of the selecting metric on the selecting split, and the (first) epoch that reached it."""

    epoch: int
    value: float


class SplitRecord(TypedDict):
    """How many images a split had, and where they came from, in words."""

    images: int
    origin: str


class RunScores(TypedDict):
    """A run's scores.json.

    `best` holds all heads at the epoch where main was best, `own_best` each at its own. `class_names` are in label
    order.
    """

    recipe: str
    method: str
    seed: int
    selection: Selection
    last: EpochScores
    best: EpochScores
    own_best: dict[str, OwnBest]
    class_names: list[str]
    splits: dict[str, SplitRecord]
    seconds: dict[str, float | None]
    parameters: dict[str, int]


def write_text(path: Path, text: str) -> None:
    """Text, visible under its name only once it is whole.

    Raises: StorageError: if it cannot be written.
    """
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """JSON, visible under its name only once it is whole; numbers that are not finite are null."""
    write_text(path, to_json(content) + "\n")


def read_json(path: Path) -> Any:
    """What `write_json` wrote.

    Raises: RunError: if the file is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} cannot be read: {error}") from error


def read_record(file: Path) -> dict[str, Any]:
    """A JSON object that a run wrote.

    Raises: RunError: if the file is damaged.
    """
    content = read_json(file)
    if not isinstance(content, dict):
        raise RunError(f"{file} is damaged: it is not what a run writes")
    return content


def data_record(fingerprint: str, told: DatasetInfo) -> dict[str, Any]:
    """What a run notes of its data.

    Args:
        fingerprint: of the data.
        told: what the method was told of it.
    """
    labels = {} if told.labels is None else {"labels": told.labels}
    return {
        "fingerprint": fingerprint,
        "class_names": told.class_names,
        "num_samples": told.num_samples,
        "input_size": told.input_size,
        **labels,
    }


def dataset_noted(
    file: Path, noted: Mapping[str, Any], class_names: tuple[str, ...], input_size: tuple[int, int, int]
) -> DatasetInfo:
    """What a method was told of its data.

    Args:
        file: that has it.
        noted: its content, with `num_samples`.
        class_names: K names in label order.
        input_size: (channels, height, width) of the images of the run's recipe, which must be noted too.
    Raises: RunError: if the file is damaged.
    """
    num_samples, labels = _number_of_images(file, noted["num_samples"]), noted.get("labels")
    if noted.get("input_size") != list(input_size):
        size, expected = shown(noted.get("input_size")), list(input_size)
        raise RunError(f"{file} is damaged: its input_size is {size}, and the run's recipe gives {expected}")
    if labels is not None and not _are_labels(labels, num_samples, len(class_names)):
        raise RunError(f"{file} is damaged: its labels are no {num_samples} labels of {len(class_names)} classes")
    return DatasetInfo(
        num_samples,
        len(class_names),
        class_names,
        labels=None if labels is None else tuple(labels),
        input_size=input_size,
    )


def images_trained_on(file: Path, scores: RunScores) -> int | None:
    """How many training images a finished run had; None where its scores do not say.

    Args:
        file: that has the scores.
        scores: its content.
    Raises: RunError: if the file is damaged.
    """
    split = scores.get("splits", {}).get("train")
    if split is not None:
        return _number_of_images(file, split["images"])
    heads = scores["last"]["scores"].get("train", {})
    counted = next((score["n"] for metrics in heads.values() for score in metrics.values()), None)
    return None if counted is None else _number_of_images(file, counted)


def class_names_noted(file: Path) -> tuple[str, ...] | None:
    """The names of the classes in label order that a file of a run has; None if it has none.

    Raises: RunError: if the file is damaged.
    """
    names = read_record(file).get("class_names")
    if names is None:
        return None
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise RunError(f"{file} is damaged: its class_names are no list of names")
    if len(names) < _FEWEST_CLASSES:
        raise RunError(f"{file} is damaged: its class_names are fewer than {_FEWEST_CLASSES}")
    return tuple(names)


def _number_of_images(file: Path, number: object) -> int:
    if not (type(number) is int and 1 <= number <= _MOST_IMAGES):
        raise RunError(f"{file} is damaged: it says that the training set had {shown(number)} images")
    return number


def _are_labels(values: object, count: int, classes: int) -> bool:
    listed = isinstance(values, list) and len(values) == count
    return listed and all(type(value) is int and 0 <= value < classes for value in cast(list[Any], values))


def write_teacher(file: Path, record: TeacherRecord) -> None:
    """Write what is known of a run's teacher."""
    write_json(file, asdict(record))


def read_teacher(file: Path) -> TeacherRecord:
    """What `write_teacher` wrote.

    Raises: RunError: if the file is damaged.
    """
    parser = ArgumentParser(exit_on_error=False)
    for key, kind in get_type_hints(TeacherRecord).items():
        parser.add_argument(f"--{key}", type=kind, required=True)
    try:
        return TeacherRecord(**parser.parse_object(read_record(file)).as_dict())
    except (argparse.ArgumentError, TypeError, ValueError) as error:
        raise RunError(f"{file} is damaged: it is not what a run writes") from error


def read_scores(file: Path) -> RunScores:
    """A run's scores, of any task: their form is checked, not which heads and metrics there are.

    Of older runs, keys that are newer may be missing.

    Raises: RunError: if the file is damaged.
    """
    kinds = get_type_hints(RunScores)
    parser = ArgumentParser(exit_on_error=False)
    for key, kind in kinds.items():
        parser.add_argument(f"--{key}", type=kind)
    content = read_record(file)
    known = {key: value for key, value in content.items() if key in kinds}
    try:
        parser.parse_object(known)
    except (argparse.ArgumentError, TypeError, ValueError) as error:
        raise RunError(f"{file} is damaged: it is not what a run writes") from error
    lacking = [key for key in _ALWAYS_SCORED if known.get(key) is None]
    if lacking:
        raise RunError(f"{file} is damaged: it lacks {', '.join(lacking)}")
    return cast(RunScores, content)
