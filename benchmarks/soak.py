"""Measure memory, time, open files, threads and child processes of a training over a thousand epochs.

    python benchmarks/soak.py [--epochs 1000] [--folder runs/soak]

The command trains a tiny network on digits with DTSKD, once from images in memory and once from files that a worker
process reads. A second process measures the first one whenever a row is added to metrics.csv. Writes results/soak.json
and its section of docs/resume.md. The exit status is 1 if something grew.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from digit_images import write_images
from report import Report, machine, table

RECIPE = "demo/digits/resnet18/dtskd"
OPTIONS = {"backbone.width": 4, "trainer.evaluate_every": 10}
VARIANTS = {
    "memory": {"data.classes": "[0,1,2,3,4]", "data.train_per_class": 40},
    "files, 1 worker": {"data": "folder", "data.image_size": 16, "data.memory_gb": 0, "loader.workers": 1},
}
STEPS = 10
"""Steps in an epoch: 200 images in batches of 20."""


def _count(folder: str) -> Callable[[int], float]:
    return lambda pid: len(list(Path(f"/proc/{pid}/{folder}").iterdir()))


def _resident(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _children(pid: int) -> float:
    return len(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def _processor_ms(pid: int) -> float:
    """The processor time of a process and of its children that have ended, since its start."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return 1000 * sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")


MEASURES: dict[str, Callable[[int], float]] = {
    "resident memory (MB)": _resident,
    "open files": _count("fd"),
    "threads": _count("task"),
    "child processes": _children,
    "load of the machine": lambda pid: os.getloadavg()[0],
}
TOLERANCES: dict[str, float | None] = {
    "resident memory (MB)": 0.02,
    "ms a step": 0.10,
    "ms an epoch": 0.10,
    "processor's ms an epoch": 0.10,
    "open files": 0.0,
    "threads": 0.0,
    "child processes": 0.0,
    "load of the machine": None,
}
"""The share by which the median of the last quarter may exceed that of the second quarter; None for no limit."""
EPOCHS_A_POINT = dict.fromkeys(("ms an epoch", "processor's ms an epoch"), OPTIONS["trainer.evaluate_every"])
"""The epochs between two points of a series; 1 for the series that are not here."""


def soak(options: dict[str, Any], epochs: int, folder: Path) -> dict[str, list[float]]:
    """Train, and measure the process whenever an epoch has ended.

    Returns: the measurements by name. An epoch is missed if it ends during a measurement.
    """
    overrides = [f"{key}={value}" for key, value in {**OPTIONS, **options, "trainer.epochs": epochs}.items()]
    command = [sys.executable, "-m", "selfkd", "train", RECIPE, *overrides, "name=soak", "--no-progress"]
    log = folder / "log.txt"
    metrics = folder / "soak" / "seed-0" / "metrics.csv"
    series: dict[str, list[float]] = {name: [] for name in MEASURES}
    ends: dict[int, float] = {}  # by epoch: the time of its end in ms
    work: dict[int, float] = {}  # by epoch: the processor time until then in ms
    with log.open("w") as output:
        process = subprocess.Popen([*command, "--runs", str(folder)], stdout=output, stderr=output)
        latest = 0
        while process.poll() is None:
            rows = metrics.read_bytes().count(b"\n") - 1 if _newer(metrics, latest) else 0
            if not rows:
                time.sleep(0.003)
                continue
            latest = metrics.stat().st_mtime_ns
            ends[rows] = latest / 1e6
            with suppress(FileNotFoundError, ProcessLookupError, IndexError):  # the process has just ended
                work[rows] = _processor_ms(process.pid)
                values = {name: measure(process.pid) for name, measure in MEASURES.items()}
                for name, value in values.items():
                    series[name].append(value)
    if process.returncode:
        raise RuntimeError(f"the run ended with {process.returncode}: {log.read_text()}")
    times = {
        "ms a step": _step_times(metrics),
        "ms an epoch": _an_epoch(ends),
        "processor's ms an epoch": _an_epoch(work),
    }
    return {**series, **times}


def _newer(file: Path, than: int) -> bool:
    return file.exists() and file.stat().st_mtime_ns != than


def _step_times(metrics: Path) -> list[float]:
    from selfkd.training.epoch_log import read_epoch_log

    return [1000 * row["seconds/train"] / STEPS for row in read_epoch_log(metrics)]


def _an_epoch(totals: dict[int, float]) -> list[float]:
    """The mean time of an epoch over each stretch that has one evaluation, logs and checkpoints included."""
    every = OPTIONS["trainer.evaluate_every"]
    tens = [row for row in sorted(totals) if row % every == 0 and row + every in totals]
    return [(totals[row + every] - totals[row]) / every for row in tens]


def judged(series: Sequence[float], tolerance: float | None) -> dict[str, Any]:
    """The medians of the four quarters, the growth, the slope, and whether the series is flat.

    The growth is from the second quarter to the last. The first quarter does not count, because memory and caches fill
    in it. The slope is that of a straight line through the last three quarters, in a thousand points. Both are shares
    of the second quarter's median.
    """
    quarter = max(len(series) // 4, 1)
    medians = [statistics.median(series[start * quarter : (start + 1) * quarter]) for start in range(4)]
    later = list(series[quarter:])
    line = statistics.linear_regression(range(len(later)), later)
    unit = medians[1] or 1.0
    growth = (medians[3] - medians[1]) / unit
    return {
        "quarters": medians,
        "growth": growth,
        "slope": 1000 * line.slope / unit,
        "flat": tolerance is None or growth <= tolerance,
    }


def measure(epochs: int, folder: Path) -> dict[str, Any]:
    """Train and measure every variant."""
    from selfkd.runs.environment import environment

    variants = {}
    for position, (name, options) in enumerate(VARIANTS.items()):
        place = folder / str(position)
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        if options.get("data") == "folder":
            options = {**options, "data.root": write_images(place / "images")}
        series = soak(options, epochs, place)
        variants[name] = {measured: judged(values, TOLERANCES[measured]) for measured, values in series.items()}
    return {
        "epochs": epochs,
        "variants": variants,
        "environment": environment(),
    }


def section(results: dict[str, Any]) -> str:
    """The section of the page."""
    parts = []
    for name, variant in results["variants"].items():
        rows = [_row(measured, of) for measured, of in variant.items()]
        headers = ["", *(f"quarter {i}" for i in range(1, 5)), "growth", "slope", "at most", "flat"]
        parts.append(f"Images from {name}:\n\n{table(rows, headers)}\n")
    return (
        f"DTSKD trains a tiny ResNet-18 on digits for {results['epochs']:,} epochs of {STEPS} steps in one process, "
        f"evaluated every {OPTIONS['trainer.evaluate_every']} epochs, with a checkpoint every epoch. Another process "
        "measures it once an epoch. The table shows medians over quarters of the run. *Growth* is the change from "
        "the second quarter to the last. *Slope* is that of a straight line through the last three quarters, per "
        "thousand epochs. Both are shares of the second quarter's median. The time of an epoch includes its log, its "
        "checkpoint and its share of the evaluations. A growth up to *at most* counts as flat.\n\n"
        + "\n".join(parts)
        + f"\n{machine(results['environment'])}."
    )


def _row(measured: str, of: dict[str, Any]) -> list[str]:
    tolerance = TOLERANCES[measured]
    medians = [f"{median:.{0 if tolerance == 0 else 1}f}" for median in of["quarters"]]
    slope = of["slope"] / EPOCHS_A_POINT.get(measured, 1)
    verdict = ("", "") if tolerance is None else (f"{100 * tolerance:.0f} %", "yes" if of["flat"] else "**no**")
    return [measured, *medians, f"{100 * of['growth']:+.1f} %", f"{100 * slope:+.1f} %", *verdict]


REPORT = Report("soak", "resume.md", section, is_section=True)


def main(given: Sequence[str] | None = None) -> int:
    parser = REPORT.parser(__doc__)
    parser.add_argument("--epochs", type=int, default=1000, help="epochs of a run, at least 40 (%(default)s)")
    parser.add_argument("--folder", type=Path, default=Path("runs") / "soak", help="folder of the runs (%(default)s)")
    arguments = parser.parse_args(given)
    results = measure(arguments.epochs, arguments.folder)
    REPORT.write(results)
    print(section(results))
    return int(not all(of["flat"] for variant in results["variants"].values() for of in variant.values()))


if __name__ == "__main__":
    sys.exit(main())
