"""`selfkd predict RUN IMAGE ...`"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

__all__ = ["add_parser"]


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "predict", help="label images with a trained network", description="Label images with a finished run's network."
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder")
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="image files")
    parser.add_argument("--top", type=int, default=1, metavar="K", help="the K likeliest classes (default: 1)")
    parser.add_argument("--trust-imports", action="store_true", help="let the run's recipe import somebody's own code")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(execute=_execute)


def _execute(parsed: argparse.Namespace) -> None:
    from selfkd.runs.loading import load
    from selfkd.runs.prediction import predict

    predictions = predict(load(parsed.run, parsed.trust_imports), parsed.images, parsed.top)
    if parsed.json:
        print(json.dumps(predictions, indent=2))
        return
    for prediction in predictions:
        ranked = ", ".join(f"{each['label']} {100 * each['probability']:.1f} %" for each in prediction["classes"])
        print(f"{prediction['image']}: {ranked}")
