"""Plain training and four methods on all of CIFAR-100 within a CPU's budget: quarter-width ResNet-18, 15 epochs.

    python benchmarks/cifar100_small_budget.py DATA_ROOT [--runs runs]

writes results/cifar100_small_budget.json and docs/small-budget.md; interrupted, it continues where it stopped, and what
the results hold already is not measured again (remove it there to do so). `--page` only writes the page again from the
results. One training at a time: set OMP_NUM_THREADS to share a machine.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results" / "cifar100_small_budget.json"
PAGE = ROOT / "docs" / "small-budget.md"
METHODS = ("plain", "ps_kd", "dtskd", "loth", "teskd")
RECIPE = "dtskd/cifar100/resnet18/plain"
OVERRIDES = {"backbone.width": 16, "trainer.epochs": 15, "trainer.best_after_epoch": 0}

_INTRODUCTION = """\
# A small budget on CIFAR-100

**This is a small budget whose direction is not the papers'.** A quarter-width ResNet-18 trains for 15 epochs of all
50,000 images, by all methods in DTSKD's protocol; the papers train the full width for 200 or 300 epochs, each in a
protocol of its own. So short a budget leaves the network underfitted, as its training accuracy shows, and a
regulariser helps only a network that can fit its training set. The table shows that real data flows through the whole
system and what an epoch costs; correctness is shown by golden values in the tests.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_root", nargs="?", help="folder with CIFAR-100's Parquet files")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--page", action="store_true", help="only write the page from the results")
    arguments = parser.parse_args()
    if not arguments.page:
        if arguments.data_root is None:
            parser.error("DATA_ROOT is needed")
        known = json.loads(RESULTS.read_text())["runs"] if RESULTS.exists() else []
        results = measure(arguments.data_root, arguments.runs, known)
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    PAGE.write_text(page(json.loads(RESULTS.read_text())))
    return 0


def measure(data_root: str, runs: Path, known: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """Train every method, or continue, and collect what the run folders hold; known records are kept as they are."""
    from selfkd.recipes.reader import resolve
    from selfkd.runs.train import run
    from selfkd.training.epoch_log import read_epoch_log

    by_method = {record["scores"]["method"]: record for record in known}
    for method in METHODS:
        if method in by_method:
            continue
        folder = run(resolve(RECIPE, {**OVERRIDES, "method": method, "data.root": data_root}), runs)
        by_method[method] = {
            "scores": folder.scores(),
            "environment": json.loads(folder.environment_file.read_text()),
            "epochs": read_epoch_log(folder.metrics_file),
        }
    return {
        "command": "python benchmarks/cifar100_small_budget.py DATA_ROOT",
        "runs": [by_method[method] for method in METHODS],
    }


def page(results: dict[str, Any]) -> str:
    """The documentation page, made of nothing but the results."""
    from selfkd.reports.seed_table import rows_of, table

    runs = results["runs"]
    environment = runs[0]["environment"]
    packages = environment["packages"]
    seconds = ", ".join(
        f"{run['scores']['method']} {run['scores']['seconds']['train_epoch_median']:.1f} s" for run in runs
    )
    return (
        f"{_INTRODUCTION}\n{table(rows_of(run['scores'] for run in runs))}\n\n"
        f"Seed {runs[0]['scores']['seed']}, one run each; test accuracy on 10,000 images, training accuracy on the "
        f"50,000 unaugmented. bf16 autocast, channels-last, {environment['threads']} CPU thread(s), torch "
        f"{packages['torch']}. An epoch of training, evaluation apart: {seconds}.\n\n"
        f"Written by `{results['command']}` from `results/{RESULTS.name}`.\n"
    )


if __name__ == "__main__":
    sys.exit(main())
