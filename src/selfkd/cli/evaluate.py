"""`selfkd evaluate RUN`"""

from __future__ import annotations

import argparse
from typing import Any

from selfkd.cli.arguments import add_checkpoint, add_run_verb, path
from selfkd.errors import RecipeError
from selfkd.json_text import to_json

__all__ = ["add_parser"]

_EPILOG = """\
The output holds top-1 and top-5 accuracy, NLL, Brier score, ECE, adaptive ECE and AURC of every head and of the
ensemble of heads, each with a 95 % interval; how often two heads agree; and the confusions of the main head.
docs/evaluation.md explains every number.

RUN/evaluation/<split>-<checkpoint>.json keeps all numbers of a split. --json prints the same, also for --data FOLDER;
for several folders, it prints a list.
"""


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    parser = add_run_verb(
        verbs,
        "evaluate",
        "measure accuracy and calibration of every head of a run",
        "Measure accuracy, calibration and confusions of every head of a run.",
        _EPILOG,
    )
    parser.add_argument(
        "arguments",
        nargs="*",
        metavar="key=value",
        help="options of the machine, such as data.root=FOLDER if the data has moved",
    )
    parser.add_argument(
        "--split", choices=("test", "train", "validation"), default="test", help="images to evaluate (default: test)"
    )
    add_checkpoint(parser)
    parser.add_argument(
        "--data",
        type=path,
        action="append",
        metavar="FOLDER",
        help="evaluate the images of this folder instead: one folder of images for each class, with the run's class "
        "names; some classes may be missing. A CSV file of paths and labels is taken, too. Give --data several times "
        "to evaluate each of several",
    )
    parser.add_argument(
        "--keep-logits",
        action="store_true",
        help="keep the logits of all images in RUN/evaluation/<split>-<checkpoint>.safetensors",
    )
    parser.add_argument(
        "--temperature",
        action="store_true",
        help="also fit a temperature for each head, and print the scores before and after; it is fitted on the "
        "validation split or, without one, on one half of the images and measured on the other",
    )
    parser.add_argument("--json", action="store_true", help="print all numbers as JSON")
    parser.set_defaults(execute=_execute, takes="arguments")


def _execute(parsed: argparse.Namespace) -> None:
    from selfkd import api

    overrides = api.split_overrides(parsed.arguments)
    if "data" in overrides:
        raise RecipeError("data cannot change in a run that exists; --data FOLDER evaluates other images")
    data = parsed.data[0] if parsed.data and len(parsed.data) == 1 else parsed.data
    evaluation = api.evaluate(
        parsed.run,
        parsed.split,
        parsed.checkpoint,
        data=data,
        keep_logits=parsed.keep_logits,
        temperature=parsed.temperature,
        trust_imports=parsed.trust_imports,
        **overrides,
    )
    numbers = [each.as_dict() for each in evaluation] if isinstance(evaluation, list) else evaluation.as_dict()
    print(to_json(numbers, indent=None) if parsed.json else api.evaluation_report(evaluation))
