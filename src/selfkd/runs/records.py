"""The records that a run writes as JSON: its scores and its teacher."""

from __future__ import annotations

import argparse
import functools
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast, get_type_hints

from jsonargparse import ArgumentParser

from selfkd.atomic_files import written_whole
from selfkd.contract import TeacherRecord
from selfkd.errors import RunError
from selfkd.evaluation.scores import Scores
from selfkd.json_text import to_json

__all__ = [
    "EpochScores",
    "OwnBest",
    "RunScores",
    "Selection",
    "SplitRecord",
    "mean_top1_of",
    "read_json",
    "read_record",
    "read_scores",
    "read_teacher",
    "top1_of",
    "write_json",
    "write_text",
]

_ALWAYS_SCORED = ("recipe", "method", "selection", "last", "best", "seconds")


class EpochScores(TypedDict):
    """The scores of one epoch's weights: `epoch` is counted from 1, `scores` are by split."""

    epoch: int
    scores: dict[str, Scores]


def top1_of(scores: EpochScores, head: str = "main", split: str = "test") -> float | None:
    """The top-1 accuracy of a head in percent; None if the epoch does not have it, as in another task."""
    score = scores["scores"].get(split, {}).get(head, {}).get("top1")
    return None if score is None else score["value"]


def mean_top1_of(scores: EpochScores, heads: Sequence[str], split: str = "test") -> float | None:
    """The mean of the top-1 accuracies of several heads in percent; None if the epoch lacks one of them."""
    accuracies = [accuracy for head in heads if (accuracy := top1_of(scores, head, split)) is not None]
    return statistics.fmean(accuracies) if len(accuracies) == len(heads) else None


class Selection(TypedDict):
    """How the best epoch was chosen.

    Keys: `rule` names the split. Only epochs after `after_epoch` counted. `metric` is that of the main head,
    `higher_is_better` its direction; older runs lack both, and used top1.
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
    """The number of images in a split, and a phrase that says where they came from."""

    images: int
    origin: str


class RunScores(TypedDict):
    """The content of a run's scores.json.

    `best` holds all heads at the epoch where the main head was best, `own_best` each head at its own best epoch.
    `class_names` are in label order. `images_seen` is the number of images that went through the network in training,
    every view counted; None if some epochs did not log it, and missing in older runs.
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
    images_seen: NotRequired[int | None]
    seconds: dict[str, float | None]
    parameters: dict[str, int]


def write_text(path: Path, text: str) -> None:
    """Write a text file, which appears under its name only when it is complete.

    Raises: StorageError: if it cannot be written.
    """
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file, as `write_text` does. Numbers that are NaN or infinite become null."""
    write_text(path, to_json(content) + "\n")


def read_json(path: Path) -> Any:
    """Read what `write_json` wrote.

    Raises: RunError: if the file is damaged.
    """
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is not a file")  # reading a pipe could wait for ever
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} cannot be read: {error}") from error


def read_record(file: Path) -> dict[str, Any]:
    """Read a JSON object that a run wrote.

    Raises: RunError: if the file is damaged.
    """
    content = read_json(file)
    if not isinstance(content, dict):
        raise RunError(f"{file} is damaged: it holds no JSON object")
    return content


def read_teacher(file: Path) -> TeacherRecord:
    """Read the record of a run's teacher.

    Raises: RunError: if the file is damaged.
    """
    return TeacherRecord(**_parsed(file, read_record(file), TeacherRecord, required=True))


def read_scores(file: Path) -> RunScores:
    """Read the scores of a run of any task. Their form is checked, not which heads and metrics there are.

    Scores of an older version may lack keys.

    Raises: RunError: if the file is damaged.
    """
    scores = read_record(file)
    known = {key: value for key, value in scores.items() if key in get_type_hints(RunScores)}
    _parsed(file, known, RunScores, required=False)
    missing = [key for key in _ALWAYS_SCORED if known.get(key) is None]
    if missing:
        raise RunError(f"{file} is damaged: it lacks {', '.join(missing)}")
    return cast(RunScores, scores)


def _parsed(file: Path, record: dict[str, Any], kind: type, required: bool) -> dict[str, Any]:
    """A record's values, checked against the annotated types of a class.

    Raises: RunError: if the file is damaged.
    """
    try:
        return dict(_parser(kind, required).parse_object(record).as_dict())
    except (argparse.ArgumentError, TypeError, ValueError) as error:
        raise RunError(f"{file} is damaged: a run writes other keys or values") from error


@functools.cache
def _parser(kind: type, required: bool) -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    for key, annotation in get_type_hints(kind).items():
        parser.add_argument(f"--{key}", type=annotation, required=required)
    return parser
