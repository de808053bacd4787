"""`selfkd predict RUN IMAGE ...`"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from selfkd.cli.arguments import add_checkpoint, add_output, add_run_verb, not_empty
from selfkd.cli.output import opened
from selfkd.errors import DataError, UnlabelledImagesError, UnreadableImageError
from selfkd.given_paths import check_run
from selfkd.json_text import to_json
from selfkd.terminal import as_message, printable

if TYPE_CHECKING:
    from selfkd.api import Prediction

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
    add_checkpoint(parser)
    add_output(parser, "file to write (default: standard output)")
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--json", dest="form", action="store_const", const=_as_json, help="write JSON")
    forms.add_argument("--csv", dest="form", action="store_const", const=_as_csv, help="write CSV")
    parser.set_defaults(execute=_execute, takes="images", form=_as_text)


def _execute(parsed: argparse.Namespace) -> None:
    from selfkd import api

    check_run(parsed.run)  # before the imports, which take seconds
    file = None if parsed.output is None else api.check_output(parsed.output, parsed.overwrite)
    problems, labelled = _Problems(), 0

    def counted(predictions: Iterable[Prediction]) -> Iterator[Prediction]:
        nonlocal labelled
        for prediction in predictions:
            labelled += 1
            yield prediction

    run = api.load(parsed.run, parsed.checkpoint, trust_imports=parsed.trust_imports)
    predictions = counted(
        run.predict_each(parsed.images, parsed.top, batch_size=parsed.batch_size, report=problems.report)
    )
    if parsed.form is _as_csv and file is None and sys.stdout.isatty():
        predictions = map(_with_printable_names, predictions)
    with opened(file) as write:
        for text in parsed.form(predictions):
            write(text)
    said = []
    if problems.unread:
        said.append(f"{problems.unread} of {problems.unread + labelled} images could not be read")
    if problems.unlisted:
        said.append("some folders or patterns could not be listed")
    if said:
        raise UnlabelledImagesError(f"{', and '.join(said)} (see above); {labelled} images were labelled")


class _Problems:
    """Prints problems on standard error and counts them."""

    def __init__(self) -> None:
        self.unread = self.unlisted = 0

    def report(self, problem: DataError) -> None:
        if isinstance(problem, UnreadableImageError):
            self.unread += 1
        else:
            self.unlisted += 1
        print(as_message(f"selfkd: {problem}"), file=sys.stderr)


def _as_text(predictions: Iterable[Prediction]) -> Iterator[str]:
    for prediction in predictions:
        ranked = (f"{printable(each.label)} {100 * each.probability:.1f} %" for each in prediction.classes)
        yield f"{printable(str(prediction.image))}: {', '.join(ranked)}\n"


def _as_json(predictions: Iterable[Prediction]) -> Iterator[str]:
    before = "["
    for prediction in predictions:
        yield f"{before}\n  {to_json(prediction.to_json(), indent=None)}"
        before = ","
    yield "\n]\n" if before == "," else "[]\n"


def _as_csv(predictions: Iterable[Prediction]) -> Iterator[str]:
    yield _csv_line(_COLUMNS)
    for prediction in predictions:
        for rank, each in enumerate(prediction.classes, start=1):
            yield _csv_line((prediction.image, rank, each.label, each.probability))


def _with_printable_names(prediction: Prediction) -> Prediction:
    classes = tuple(replace(each, label=printable(each.label)) for each in prediction.classes)
    return replace(prediction, image=printable(str(prediction.image)), classes=classes)


def _csv_line(cells: Iterable[object]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerow(cells)  # with this terminator it also quotes \r
    return text.getvalue().removesuffix("\r\n") + "\n"
