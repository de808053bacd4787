"""Plain training and four methods on all of CIFAR-100 within a CPU's budget: quarter-width ResNet-18, 15 epochs.

    python benchmarks/cifar100_small_budget.py DATA_ROOT [--runs runs]

Writes results/cifar100_small_budget.json and docs/small-budget.md. After an interruption the same command continues.
Methods whose results are there are not measured again. One training runs at a time; set OMP_NUM_THREADS to share a
machine.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from report import Report, machine, run_log

METHODS = ("plain", "ps_kd", "dtskd", "loth", "teskd")
RECIPE = "dtskd/cifar100/resnet18/plain"
OVERRIDES = {"backbone.width": 16, "trainer.epochs": 15, "trainer.best_after_epoch": 0}

_INTRODUCTION = """\
# A small budget on CIFAR-100

**With this small budget the methods do not help as they do in the papers.** A quarter-width ResNet-18 trains for 15
epochs of all 50,000 images, with all methods in DTSKD's protocol. The papers train the full width for 200 or 300
epochs, each in its own protocol. After so few epochs the network is underfitted, as its training accuracy shows, and a
regulariser helps only a network that can fit its training set. The table shows that the whole system works with real
data, and what an epoch costs. Golden values in the tests show that the methods are correct.
"""


def measure(data_root: str, runs: Path, known: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """Train every method, or continue its run, and collect what the run folders hold.

    Args:
        data_root: folder with CIFAR-100's Parquet files.
        runs: folder of the runs.
        known: records of earlier measurements, which are kept.
    """
    from selfkd.recipes.reader import resolve
    from selfkd.runs.train import run

    by_method = {record["scores"]["method"]: record for record in known}
    for method in METHODS:
        if method in by_method:
            continue
        folder = run(resolve(RECIPE, {**OVERRIDES, "method": method, "data.root": data_root}), runs)
        by_method[method] = {"scores": folder.scores(), **run_log(folder)}
    return {"runs": [by_method[method] for method in METHODS]}


def page(results: dict[str, Any]) -> str:
    """The documentation page."""
    from selfkd.reports.seed_table import rows_of, table

    runs = results["runs"]
    seconds = ", ".join(
        f"{run['scores']['method']} {run['scores']['seconds']['train_epoch_median']:.1f} s" for run in runs
    )
    return (
        f"{_INTRODUCTION}\n{table(rows_of(run['scores'] for run in runs))}\n\n"
        f"Seed {runs[0]['scores']['seed']}, one run each; test accuracy on 10,000 images, training accuracy on the "
        f"50,000 unaugmented. bf16 autocast, channels-last, {machine(runs[0]['environment'])}. An epoch of training "
        f"without evaluation took: {seconds}."
    )


REPORT = Report("cifar100_small_budget", "small-budget.md", page, arguments="DATA_ROOT")


def main() -> int:
    arguments = REPORT.cifar100_parser(__doc__).parse_args()
    known = REPORT.read() or {"runs": []}
    REPORT.write(measure(arguments.data_root, arguments.runs, known["runs"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
