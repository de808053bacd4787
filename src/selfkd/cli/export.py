"""`selfkd export RUN --format safetensors`"""

from __future__ import annotations

import argparse
from typing import Any

from selfkd.cli.path_arguments import path
from selfkd.cli.wording import OVERWRITE, UNFINISHED
from selfkd.json_text import to_json

__all__ = ["add_parser"]


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "export",
        help="the plain network out of a run, proven equal",
        description="Write a run's plain network to a file and prove that it gives the same logits. " + UNFINISHED,
    )
    parser.add_argument("run", type=path, metavar="RUN", help="run folder")
    parser.add_argument("--format", choices=("safetensors",), default="safetensors", help="default: safetensors")
    parser.add_argument("--checkpoint", choices=("last", "best"), default="last", help="default: last")
    parser.add_argument(
        "--output", type=path, help="file to write, whose name ends in .safetensors (default: in the run's export/)"
    )
    parser.add_argument("--overwrite", action="store_true", help=OVERWRITE)
    parser.add_argument("--trust-imports", action="store_true", help="let the run's recipe import somebody's own code")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(execute=_execute)


def _execute(parsed: argparse.Namespace) -> None:
    from selfkd.given_paths import check_run

    check_run(parsed.run)  # before what takes seconds to import

    from selfkd.runs.export import export_run

    path, difference = export_run(parsed.run, parsed.checkpoint, parsed.output, parsed.trust_imports, parsed.overwrite)
    if parsed.json:
        print(to_json({"file": str(path), "checkpoint": parsed.checkpoint, "largest_difference": difference}, None))
    else:
        print(f"{path}\nlogits equal to the trained network's to {difference:.1e}")
