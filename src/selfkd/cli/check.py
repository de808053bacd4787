"""`selfkd check DATA [key=value ...]`"""

from __future__ import annotations

import argparse
from typing import Any

from selfkd.cli.arguments import add_verb, not_empty
from selfkd.errors import UnfitDataError
from selfkd.json_text import to_json

__all__ = ["add_parser"]

_EPILOG = """\
Options of data set and network are the same as in training: data.image_size=32, data.mean=[0.5,0.5,0.5],
backbone=resnet18. With a backbone, its first layers are compared with the size of the images.

Exit status: 0 if training would work, even with warnings; 1 if it would fail; 2 if the command is wrong.
"""


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    parser = add_verb(
        verbs,
        "check",
        "find mistakes in a data set before training",
        "Open every image of a data set and report what is wrong or strange.",
        _EPILOG,
    )
    parser.add_argument(
        "data",
        type=not_empty,
        metavar="DATA",
        help="a folder, a CSV file, a name in 'selfkd list datasets' with data.root=FOLDER, or package.module:Name",
    )
    parser.add_argument("arguments", nargs="*", metavar="key=value", help="options of data set and backbone")
    parser.add_argument("--quick", action="store_true", help="open no image; check layout and classes only")
    parser.add_argument("--json", action="store_true", help="print the whole report as JSON")
    parser.set_defaults(execute=_execute, takes="arguments")


def _execute(parsed: argparse.Namespace) -> None:
    from selfkd import api

    report = api.check(parsed.data, quick=parsed.quick, **api.split_overrides(parsed.arguments))
    print(to_json(report.to_json()) if parsed.json else report.text())
    if report.errors:
        raise UnfitDataError(f"training would fail; errors found: {len(report.errors)}, the first: {report.errors[0]}")
