"""`selfkd evaluate RUN`"""

from __future__ import annotations

import argparse
from typing import Any

from selfkd.cli.arguments import add_checkpoint, add_run_parser
from selfkd.json_text import to_json

__all__ = ["add_parser"]


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    parser = add_run_parser(
        verbs,
        "evaluate",
        "measure the accuracy of every head of a run",
        "Measure the top-1 and top-5 accuracy of every head of a run.",
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
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(execute=_execute, takes="arguments")


def _execute(parsed: argparse.Namespace) -> None:
    from selfkd.given_paths import check_run
    from selfkd.recipes.key_checks import split_overrides

    check_run(parsed.run)
    overrides = split_overrides(parsed.arguments)
    # The imports take seconds, so they follow the checks that do without them.

    from selfkd.reports.score_table import score_table
    from selfkd.runs.evaluate import evaluate_run

    scores = evaluate_run(parsed.run, parsed.split, parsed.checkpoint, overrides, parsed.trust_imports)
    if parsed.json:
        print(to_json({"split": parsed.split, "checkpoint": parsed.checkpoint, "scores": scores}))
    else:
        print(score_table(scores))
