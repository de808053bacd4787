"""`selfkd export RUN --format safetensors`"""

from __future__ import annotations

import argparse
from typing import Any

from selfkd.cli.arguments import add_checkpoint, add_output, add_run_verb
from selfkd.json_text import to_json

__all__ = ["add_parser"]


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    parser = add_run_verb(
        verbs,
        "export",
        "write the plain network of a run to a file",
        "Write the plain network of a run to a file, and check that the file gives the same logits.",
    )
    parser.add_argument(
        "--format", choices=("safetensors",), default="safetensors", help="format of the file (default: safetensors)"
    )
    add_checkpoint(parser)
    add_output(parser, "file to write; its name ends in .safetensors (default: in the run's folder export/)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(execute=_execute)


def _execute(parsed: argparse.Namespace) -> None:
    from selfkd import api

    path, difference = api.export_run(
        parsed.run,
        output=parsed.output,
        format=parsed.format,
        checkpoint=parsed.checkpoint,
        overwrite=parsed.overwrite,
        trust_imports=parsed.trust_imports,
    )
    if parsed.json:
        print(to_json({"file": str(path), "checkpoint": parsed.checkpoint, "largest_difference": difference}, None))
    else:
        print(f"{path}\nits logits equal the trained network's; the largest difference is {difference:.1e}")
