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

from selfkd.cli.arguments import add_output, add_run_verb, not_empty
from selfkd.json_text import to_json
from selfkd.terminal import as_message, printable, write_exactly

if TYPE_CHECKING:
    from selfkd.errors import DataError
    from selfkd.runs.prediction import Prediction

__all__ = ["add_parser"]

_EPILOG = """\
An IMAGE is a file, a folder, or a quoted pattern such as 'photos/**/*.jpg'. In a folder, all image files are labelled,
also those in sub-folders, in sorted order. Links are followed, also to other disks, and each folder is listed once.
Links to a folder above, /proc and /sys are not listed. A file or folder that cannot be read is named on standard error,
and the others are labelled.

CSV has the columns image, rank, label and probability, and one line for each of the K classes. In a file and in a pipe,
names are exact. On a terminal, and without --csv and --json, line breaks and control codes in names are escaped.

Exit status: 0 if every image was labelled; 1 if some were not; 2 if the command is wrong.
"""
_COLUMNS = ("image", "rank", "label", "probability")


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    parser = add_run_verb(
        verbs, "predict", "label images with a trained network", "Label images with the network of a run.", _EPILOG
    )
    parser.add_argument("images", nargs="+", type=not_empty, metavar="IMAGE", help="image files, folders or patterns")
    parser.add_argument(
        "--top", type=int, default=1, metavar="K", help="give the K most probable classes of each image (default: 1)"
    )
    parser.add_argument(
        "--batch-size", type=int, default=64, metavar="N", help="label N images at a time (default: 64)"
    )
    add_output(parser, "file to write (default: standard output)")
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--json", dest="form", action="store_const", const=_as_json, help="write JSON")
    forms.add_argument("--csv", dest="form", action="store_const", const=_as_csv, help="write CSV")
    parser.set_defaults(execute=_execute, takes="images", form=_as_text)


def _execute(parsed: argparse.Namespace) -> None:
    from selfkd.given_paths import check_run

    check_run(parsed.run)  # before the imports, which take seconds

    from selfkd.errors import UnlabelledImagesError
    from selfkd.runs.loading import load
    from selfkd.runs.overwrite import checked_output
    from selfkd.runs.prediction import images_of, predict

    file = None if parsed.output is None else checked_output(parsed.output, parsed.overwrite)
    unlisted, unread, labelled = _Problems(), _Problems(), 0

    def counted(predictions: Iterable[Prediction]) -> Iterator[Prediction]:
        nonlocal labelled
        for prediction in predictions:
            labelled += 1
            yield prediction

    run = load(parsed.run, parsed.trust_imports)
    images = images_of(parsed.images, unlisted.report)
    predictions = counted(predict(run, images, parsed.top, parsed.batch_size, unread.report))
    if parsed.form is _as_csv and file is None and sys.stdout.isatty():
        predictions = map(_with_printable_names, predictions)
    with _opened(file) as write:
        for text in parsed.form(predictions):
            write(text)
    problems = []
    if unread.number:
        problems.append(f"{unread.number} of {unread.number + labelled} images could not be read")
    if unlisted.number:
        problems.append("some folders or patterns could not be listed")
    if problems:
        raise UnlabelledImagesError(f"{', and '.join(problems)} (see above); {labelled} images were labelled")


class _Problems:
    """Prints problems on standard error and counts them."""

    def __init__(self) -> None:
        self.number = 0

    def report(self, problem: DataError) -> None:
        self.number += 1
        print(as_message(f"selfkd: {problem}"), file=sys.stderr)


@contextmanager
def _opened(path: Path | None) -> Iterator[Callable[[str], Any]]:
    """Gives a function that writes text to standard output, or to a file that appears only when it is complete."""
    if path is None:
        yield write_exactly
        return
    from selfkd.atomic_files import written_whole

    with (
        written_whole(path, among_others=True) as partial,
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
    csv.writer(text, lineterminator="\r\n").writerow(cells)  # with this terminator it also quotes \r
    return text.getvalue().removesuffix("\r\n") + "\n"
