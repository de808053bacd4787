"""`selfkd evaluate RUN`"""

from __future__ import annotations

import argparse
from typing import Any

from selfkd.cli.path_arguments import path
from selfkd.cli.wording import UNFINISHED
from selfkd.json_text import to_json

__all__ = ["add_parser"]


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "evaluate",
        help="top-1 and top-5 accuracy of every head of a run",
        description="Evaluate every head of a run. " + UNFINISHED,
    )
    parser.add_argument("run", type=path, metavar="RUN", help="run folder")
    parser.add_argument("arguments", nargs="*", metavar="data.root=FOLDER", help="where the data lies now, if it moved")
    parser.add_argument("--split", choices=("test", "train", "validation"), default="test", help="default: test")
    parser.add_argument("--checkpoint", choices=("last", "best"), default="last", help="default: last")
    parser.add_argument("--trust-imports", action="store_true", help="let the run's recipe import somebody's own code")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(execute=_execute, takes="arguments")


def _execute(parsed: argparse.Namespace) -> None:
    from selfkd.given_paths import check_run
    from selfkd.recipes.reader import split_overrides

    check_run(parsed.run)
    places = split_overrides(parsed.arguments)
    # What takes seconds to import comes after what can be told without it.

    from selfkd.reports.score_table import score_table
    from selfkd.runs.evaluate import evaluate_run

    scores = evaluate_run(parsed.run, parsed.split, parsed.checkpoint, places, parsed.trust_imports)
    if parsed.json:
        print(to_json({"split": parsed.split, "checkpoint": parsed.checkpoint, "scores": scores}))
    else:
        print(score_table(scores))
