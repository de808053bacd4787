"""`selfkd predict RUN IMAGE ...`"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfkd.cli.path_arguments import not_empty, path
from selfkd.cli.wording import OVERWRITE, UNFINISHED
from selfkd.json_text import to_json
from selfkd.terminal import as_message, printable, write_exactly

if TYPE_CHECKING:
    from selfkd.errors import DataError
    from selfkd.runs.prediction import Prediction

__all__ = ["add_parser"]

_EPILOG = """\
An IMAGE is a file, a folder (all image files below it, sorted), or a quoted pattern such as 'photos/**/*.jpg'. Of a
folder, links are followed, to other disks too, and each folder below it is listed once. A link to a folder above it,
and /proc and /sys, are not listed. What cannot be read or listed is named on standard error, and the rest is labelled.

CSV has the columns image, rank, label, probability, and a line for each of the K classes. Names are exact in a file and
in a pipe; on a terminal, and in the form without --csv and --json, line breaks and control codes in them are escaped.

Exit status: 0 if every image was labelled; 1 if some were not; 2 if the command is wrong.
"""
_COLUMNS = ("image", "rank", "label", "probability")


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "predict",
        help="label images with a trained network",
        description="Label images with a run's network, as many as there are. " + UNFINISHED,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=path, metavar="RUN", help="run folder")
    parser.add_argument("images", nargs="+", type=not_empty, metavar="IMAGE", help="image files, folders, patterns")
    parser.add_argument("--top", type=int, default=1, metavar="K", help="the K likeliest classes (default: 1)")
    parser.add_argument(
        "--batch-size", type=int, default=64, metavar="N", help="images labelled together (default: 64)"
    )
    parser.add_argument("--output", type=path, metavar="FILE", help="file to write (default: standard output)")
    parser.add_argument("--overwrite", action="store_true", help=OVERWRITE)
    parser.add_argument("--trust-imports", action="store_true", help="let the run's recipe import somebody's own code")
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--json", dest="form", action="store_const", const=_as_json, help="write JSON")
    forms.add_argument("--csv", dest="form", action="store_const", const=_as_csv, help="write CSV")
    parser.set_defaults(execute=_execute, takes="images", form=_as_text)


def _execute(parsed: argparse.Namespace) -> None:
    from selfkd.given_paths import check_run

    check_run(parsed.run)  # before what takes seconds to import

    from selfkd.errors import UnlabelledImagesError
    from selfkd.runs.loading import load
    from selfkd.runs.output_file import checked_output
    from selfkd.runs.prediction import images_of, predict

    place = None if parsed.output is None else checked_output(parsed.output, parsed.overwrite)
    unlisted, unread, labelled = _Problems(), _Problems(), 0

    def counted(predictions: Iterable[Prediction]) -> Iterator[Prediction]:
        nonlocal labelled
        for prediction in predictions:
            labelled += 1
            yield prediction

    run = load(parsed.run, parsed.trust_imports)
    images = images_of(parsed.images, unlisted.report)
    predictions = counted(predict(run, images, parsed.top, parsed.batch_size, unread.report))
    if parsed.form is _as_csv and place is None and sys.stdout.isatty():
        predictions = map(_with_printable_names, predictions)
    with _written(place) as write:
        for text in parsed.form(predictions):
            write(text)
    problems = []
    if unread.number:
        problems.append(f"{unread.number} of {unread.number + labelled} images could not be read")
    if unlisted.number:
        problems.append("not every folder and pattern could be listed")
    if problems:
        raise UnlabelledImagesError(f"{', and '.join(problems)}, as said above; {labelled} images were labelled")


class _Problems:
    """Says each problem on standard error, and counts them."""

    def __init__(self) -> None:
        self.number = 0

    def report(self, problem: DataError) -> None:
        self.number += 1
        print(as_message(f"selfkd: {problem}"), file=sys.stderr)


@contextmanager
def _written(place: Path | None) -> Iterator[Callable[[str], Any]]:
    """What writes text to standard output, or to a file that is visible under its name only once it is whole."""
    if place is None:
        yield write_exactly
        return
    from selfkd.atomic_files import written_whole

    with (
        written_whole(place, among_others=True) as partial,
        partial.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        yield file.write


def _as_text(predictions: Iterable[Prediction]) -> Iterator[str]:
    for prediction in predictions:
        ranked = (f"{printable(each['label'])} {100 * each['probability']:.1f} %" for each in prediction["classes"])
        yield f"{printable(prediction['image'])}: {', '.join(ranked)}\n"


def _as_json(predictions: Iterable[Prediction]) -> Iterator[str]:
    before = "["
    for prediction in predictions:
        yield f"{before}\n  {to_json(prediction, indent=None)}"
        before = ","
    yield "\n]\n" if before == "," else "[]\n"


def _as_csv(predictions: Iterable[Prediction]) -> Iterator[str]:
    yield _csv_line(_COLUMNS)
    for prediction in predictions:
        for rank, each in enumerate(prediction["classes"], start=1):
            yield _csv_line((prediction["image"], rank, each["label"], each["probability"]))


def _with_printable_names(prediction: Prediction) -> Prediction:
    return {
        "image": printable(prediction["image"]),
        "classes": [
            {"label": printable(each["label"]), "probability": each["probability"]} for each in prediction["classes"]
        ],
    }


def _csv_line(cells: Iterable[object]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerow(cells)  # which also quotes names that hold a carriage return
    return text.getvalue().removesuffix("\r\n") + "\n"
