"""Train each method for one epoch on 10,000 images of CIFAR-100, and measure what it learns and how long it takes.

    python benchmarks/method_epochs.py [--methods plain loth frskd] [--data-root ../shared/data/cifar100]

All methods that need no teacher train a ResNet-18 of a quarter of its width, each in a process of its own, one after
the other. The plain method trains before and after each of them, so that the relative times hold while the load of the
machine changes. Each row is printed and kept at once. The rows of other methods stay. Writes
results/method_epochs.json and docs/method-epochs.md. The exit status is 1 if a method fails or does not learn.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from selfkd import process_environment

os.environ.update(process_environment.variables())  # as the selfkd command does

from torch import Tensor

import selfkd
from report import Report, machine, table
from selfkd.methods import METHODS

RECIPE = "dtskd/cifar100/resnet18/plain"
OPTIONS = {"data.train_per_class": 100, "backbone.width": 16, "trainer.epochs": 1}
CLASSES = 100
BASELINE = "plain"
STEPS = 10
"""The steps whose mean is the first loss, and those whose mean is the last."""
DEVIATIONS = 3
"""By how many standard deviations of guessing an accuracy must be above chance."""
TIMES = ("seconds", "processor_seconds")
"""The time of the epoch, and the processor time from its first step to its last."""
SHARED_DATA = Path(os.environ.get("SELFKD_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))

Row = dict[str, Any]


def methods_without_teacher() -> list[str]:
    """The names of the methods that need no trained network beside the images."""
    return [name for name in METHODS if not METHODS.load(name).needs.teacher]


def train(method: str, data_root: Path) -> Row:
    """Train a method in this process.

    Returns: its row, without what the baseline's times add.
    """
    losses: list[Tensor] = []
    processor: list[float] = []  # the processor time of this process after each forward pass

    step = selfkd.Method.__call__

    def observed(method: selfkd.Method, *inputs: Any) -> selfkd.StepOutput:
        output = step(method, *inputs)
        losses.append(output.loss.detach())
        processor.append(time.process_time())
        return output

    load = os.getloadavg()[0]
    # Of all modules, the method's calls alone are observed: a hook on every module would cost time in each of them.
    with mock.patch.object(selfkd.Method, "__call__", observed), tempfile.TemporaryDirectory() as runs:
        options = {**OPTIONS, "method": method, "data.root": str(data_root)}
        run = selfkd.train(RECIPE, runs=runs, show_progress=False, **options)
        scores, epochs = run.scores["last"]["scores"], run.metrics
        environment = json.loads((run.path / "environment.json").read_text())
    accuracies = {
        split: {head: metrics["top1"]["value"] for head, metrics in scores[split].items()}
        for split in ("train", "test")
    }
    return {
        "losses": [round(statistics.fmean(map(float, part)), 4) for part in (losses[:STEPS], losses[-STEPS:])],
        "steps": len(losses),
        "accuracies": accuracies,
        "evaluated": {split: scores[split]["main"]["top1"]["n"] for split in accuracies},
        "images": int(epochs["images/train"][0]),
        "seconds": round(float(epochs["seconds/train"][0]), 2),
        "processor_seconds": round(processor[-1] - processor[0], 2),
        "load": round(load, 2),
        "environment": environment,
    }


class TrainingFailedError(Exception):
    """The process of a training failed."""


def train_in_own_process(method: str, data_root: Path) -> Row:
    """`train` in a new process.

    Raises: TrainingFailedError: with the last line that the process has written.
    """
    command = [sys.executable, __file__, "--train", method, "--data-root", str(data_root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"its process ended with {done.returncode}"]
        raise TrainingFailedError(lines[-1])
    row: Row = json.loads(done.stdout)
    return row


def measure(methods: Sequence[str], data_root: Path, keep: Callable[[str, Row], None]) -> None:
    """Train each method, with the baseline before and after it. A method that fails does not end the others.

    Args:
        methods: names of methods; the baseline is trained in any case.
        data_root: folder of CIFAR-100's Parquet files.
        keep: called with the name of a method and its row, as soon as they are complete.
    Raises: TrainingFailedError: if the baseline fails.
    """
    before = train_in_own_process(BASELINE, data_root)
    keep(BASELINE, before)
    for method in methods:
        if method == BASELINE:
            continue
        try:
            row = train_in_own_process(method, data_root)
        except TrainingFailedError as error:
            keep(method, {"error": str(error)})
            continue
        after = train_in_own_process(BASELINE, data_root)
        keep(method, {**row, "baseline": [{kind: each[kind] for kind in TIMES} for each in (before, after)]})
        before = after


def relative(row: Row, kind: str) -> float:
    """A time of a method, one of TIMES, divided by the mean of the baseline's before and after it."""
    return row[kind] / statistics.fmean(each[kind] for each in row.get("baseline", [row]))


def faults(row: Row) -> list[str]:
    """What shows that a method has failed or has not learnt; empty if all is well."""
    if "error" in row:
        return [row["error"]]
    found = []
    first, last = row["losses"]
    if not (math.isfinite(first) and math.isfinite(last)):
        found.append("the loss is not finite")
    elif last >= first:
        found.append("the loss does not fall")
    for split, accuracies in row["accuracies"].items():
        chance = 1 / CLASSES
        deviation = math.sqrt(chance * (1 - chance) / row["evaluated"][split])
        if accuracies["main"] <= 100 * (chance + DEVIATIONS * deviation):
            found.append(f"the accuracy on the {split} split is not above chance")
    return found


def page(results: Mapping[str, Any]) -> str:
    """The documentation page."""
    rows: dict[str, Row] = results["rows"]
    trained = {name: row for name, row in rows.items() if "error" not in row}
    cells = [
        [
            name,
            *(f"{loss:.3f}" for loss in row["losses"]),
            *(f"{row['accuracies'][split]['main']:.2f}" for split in ("train", "test")),
            f"{row['images']:,}",
            f"{row['seconds']:.1f}",
            *(f"{relative(row, kind):.2f}" for kind in TIMES),
        ]
        for name, row in trained.items()
    ]
    header = ["method", "first loss", "last loss", "training (%)", "test (%)", "images", "seconds"]
    header += ["relative", "processor, relative"]
    missing = [name for name in methods_without_teacher() if name not in rows]
    failed = [f"- {name}: {fault}" for name, row in rows.items() for fault in faults(row)]
    options = " ".join(f"{key}={value}" for key, value in results["options"].items())
    loads = [row["load"] for row in trained.values()]
    machines = dict.fromkeys(machine(row["environment"]) for row in trained.values())
    commits = dict.fromkeys((row["environment"]["commit"] or "unknown")[:7] for row in trained.values())
    return "\n".join(
        [
            "# One epoch of each method",
            "",
            "A method that needs no teacher trains one epoch on 10,000 images of CIFAR-100, 100 of each class, with",
            "its default options:",
            "",
            f"    selfkd train {results['recipe']} method=NAME data.root=FOLDER {options}",
            "",
            "This shows that a method trains and learns on real images, and what it costs. It does not show which",
            "method is the best: that needs the whole training.",
            *([f"Not measured yet: {', '.join(missing)}."] if missing else []),
            "",
            table(cells, header),
            "",
            f"- first and last loss: mean of the first and of the last {STEPS} of {_steps(trained)} steps. The losses "
            "of two methods cannot be compared.",
            f"- training and test: top-1 accuracy of `main` after the epoch. Guessing gives {100 / CLASSES:g} %.",
            "- images: those that the method saw in the epoch, every view of each counted.",
            "- seconds: the epoch without evaluation. relative: divided by the mean of the plain epochs before and "
            "after it. The processor's time changes less with the load of the machine.",
            "",
            *(["Did not learn:", "", *failed, ""] if failed else []),
            f"{'; '.join(machines)}. Load average at the start of the trainings: {min(loads):.1f} to {max(loads):.1f}. "
            f"Code of {', '.join(commits)}.",
        ]
    )


def _steps(rows: Mapping[str, Row]) -> str:
    counts = sorted({row["steps"] for row in rows.values()})
    return " or ".join(map(str, counts))


REPORT = Report("method_epochs", "method-epochs.md", page)


def main(given: Sequence[str] | None = None) -> int:
    names = methods_without_teacher()
    parser = REPORT.parser(__doc__)
    parser.add_argument("--methods", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument(
        "--data-root", type=Path, default=SHARED_DATA / "cifar100", help="folder of CIFAR-100 (%(default)s)"
    )
    parser.add_argument("--train", choices=names, help=argparse.SUPPRESS)
    arguments = parser.parse_args(given)
    if arguments.train:
        print(json.dumps(train(arguments.train, arguments.data_root)))
        return 0
    settings = {"recipe": RECIPE, "options": OPTIONS}
    earlier = REPORT.read() or {}
    rows: dict[str, Row] = earlier["rows"] if earlier.items() >= settings.items() else {}
    measured: dict[str, Row] = {}

    def keep(name: str, row: Row) -> None:
        measured[name] = rows[name] = row
        REPORT.write({**settings, "rows": {each: rows[each] for each in METHODS if each in rows}})
        print(f"{name}: {'; '.join(faults(row)) or _line(row)}", flush=True)

    try:
        measure(arguments.methods, arguments.data_root, keep)
    except TrainingFailedError as error:
        sys.exit(f"{BASELINE}, which the others are compared with, failed: {error}")
    return int(any(map(faults, measured.values())))


def _line(row: Row) -> str:
    """A row in words."""
    first, last = row["losses"]
    return (
        f"loss {first:.3f} to {last:.3f}, test {row['accuracies']['test']['main']:.2f} %, {row['seconds']:.1f} s, "
        f"{relative(row, 'seconds'):.2f} times plain, of the processor {relative(row, 'processor_seconds'):.2f}"
    )


if __name__ == "__main__":
    sys.exit(main())
