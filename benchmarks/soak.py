"""A long run in one process: memory, time, open files, threads and child processes over a thousand epochs.

    python benchmarks/soak.py [--epochs 1000] [--folder runs/soak]

A tiny network learns digits by DTSKD with the real command, once from images in memory and once from files that a
worker process reads. A second process looks at the first whenever a row is added to metrics.csv. Writes
results/soak.json and its section of docs/resume.md, and says what grew; `--page` only writes the section.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from generated_section import with_section
from killed_runs import FILES, MEMORY, write_images

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results" / "soak.json"
PAGE = ROOT / "docs" / "resume.md"

RECIPE = "demo/digits/resnet18/dtskd"
OPTIONS = {"backbone.width": 4, "trainer.evaluate_every": 10}
VARIANTS = {"memory": MEMORY, "files, 1 worker": {**FILES, "loader.workers": 1}}
STEPS = 10
"""Of an epoch: 200 images in batches of 20."""


def _count(folder: str) -> Callable[[int], float]:
    return lambda pid: len(os.listdir(f"/proc/{pid}/{folder}"))  # noqa: PTH208


def _resident(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _children(pid: int) -> float:
    return len(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


LOOKS: dict[str, Callable[[int], float]] = {
    "resident memory (MB)": _resident,
    "open files": _count("fd"),
    "threads": _count("task"),
    "child processes": _children,
}
TOLERANCES = {
    "resident memory (MB)": 0.02,
    "ms a step": 0.10,
    "ms an epoch": 0.10,
    "open files": 0.0,
    "threads": 0.0,
    "child processes": 0.0,
}
"""By which share the median of the last quarter of the epochs may lie above that of the second."""


def soak(options: dict[str, Any], epochs: int, folder: Path) -> dict[str, list[float]]:
    """Train, and look at the process once an epoch.

    Returns: what was seen, by name; of epochs that were missed because a look took too long, nothing.
    """
    overrides = [f"{key}={value}" for key, value in {**OPTIONS, **options, "trainer.epochs": epochs}.items()]
    command = [sys.executable, "-m", "selfkd", "train", RECIPE, *overrides, "name=soak", "--no-progress"]
    log = folder / "log.txt"
    metrics = folder / "soak" / "seed-0" / "metrics.csv"
    series: dict[str, list[float]] = {name: [] for name in LOOKS}
    with log.open("w") as output:
        process = subprocess.Popen([*command, "--runs", str(folder)], stdout=output, stderr=output)
        latest = None
        while process.poll() is None:
            seen = metrics.stat().st_mtime_ns if metrics.exists() else None
            if seen == latest:
                time.sleep(0.003)
                continue
            latest = seen
            try:
                looks = {name: look(process.pid) for name, look in LOOKS.items()}
            except (FileNotFoundError, ProcessLookupError, IndexError):
                continue  # it has just ended
            for name, value in looks.items():
                series[name].append(value)
    if process.returncode:
        raise RuntimeError(f"the run ended with {process.returncode}: {log.read_text()}")
    return {**series, **_times(metrics)}


def _times(metrics: Path) -> dict[str, list[float]]:
    """Milliseconds of a step, and of an epoch from row to row: evaluation, log and checkpoint included."""
    from selfkd.training.epoch_log import read_epoch_log

    rows = read_epoch_log(metrics)
    return {"ms a step": [1000 * row["seconds/train"] / STEPS for row in rows]}


def judged(series: Sequence[float], tolerance: float) -> dict[str, Any]:
    """Medians of the four quarters, growth from the second to the last as a share, slope, and whether it is flat.

    The first quarter is not counted: memory and caches fill in it. The slope is that of a straight line through the
    other three, as a share of the second quarter's median in a thousand epochs.
    """
    quarter = len(series) // 4
    medians = [statistics.median(series[start * quarter : (start + 1) * quarter]) for start in range(4)]
    later = list(series[quarter:])
    line = statistics.linear_regression(range(len(later)), later)
    unit = medians[1] or 1.0
    growth = (medians[3] - medians[1]) / unit
    return {"quarters": medians, "growth": growth, "slope": 1000 * line.slope / unit, "flat": growth <= tolerance}


def measure(epochs: int, folder: Path) -> dict[str, Any]:
    """Soak every variant."""
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
        variants[name]["looks"] = len(series["open files"])
    return {
        "command": f"python benchmarks/soak.py --epochs {epochs}",
        "epochs": epochs,
        "variants": variants,
        "environment": environment(),
    }
