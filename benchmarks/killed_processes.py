"""DTSKD on a part of CIFAR-100 in two processes, killed twice, against the same run never killed.

    python benchmarks/killed_processes.py DATA_ROOT [--folder runs/killed-processes] [--train-per-class 20] [--epochs 6]

DATA_ROOT holds CIFAR-100 (torchvision's layout or Parquet). First one of the two processes is killed in the middle of
an epoch, so that the command ends with an error; continued, the command and all its processes are killed at once; then
it is left to end. Weights, optimiser, history, metrics and scores must be those of the run never killed, bit for bit.
Writes results/killed_processes.json and its section of docs/many-processes.md; `--page` only writes the section.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from generated_section import with_section
from killed_runs import differences, outcome

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results" / "killed_processes.json"
PAGE = ROOT / "docs" / "many-processes.md"
NAME = "killed-processes"


def start(arguments: argparse.Namespace, runs: Path) -> subprocess.Popen[str]:
    """The command, in a process group of its own."""
    options = {
        "name": NAME,
        "data.root": arguments.data_root,
        "data.train_per_class": arguments.train_per_class,
        "backbone.width": 16,
        "trainer.epochs": arguments.epochs,
        "trainer.precision": "bf16-mixed",
        "trainer.devices": 2,
        "trainer.accelerator": "cpu",
    }
    overrides = [f"{key}={value}" for key, value in options.items()]
    command = [sys.executable, "-m", "selfkd", "train", "dtskd/cifar100/resnet18/dtskd", *overrides]
    return subprocess.Popen(
        [*command, "--runs", str(runs), "--no-progress"], stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def wait_for_rows(run: Path, rows: int, process: subprocess.Popen[str]) -> None:
    """Wait until the log has so many epochs."""
    from selfkd.training.epoch_log import read_epoch_log

    while len(read_epoch_log(run / "metrics.csv")) < rows:
        if process.poll() is not None:
            raise RuntimeError(f"the run ended with {process.returncode}: {process.communicate()[1]}")
        time.sleep(0.05)


def trainers(process: subprocess.Popen[str]) -> list[int]:
    """The processes that train."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def ended(process: subprocess.Popen[str]) -> str:
    """Wait for a command that must end well. Returns what it said."""
    _, said = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the run ended with {process.returncode}: {said}")
    return said


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Both runs, and what differs."""
    from selfkd.runs.environment import environment
    from selfkd.training.checkpoint_files import epochs_done
    from selfkd.training.epoch_log import read_epoch_log

    shutil.rmtree(arguments.folder, ignore_errors=True)
    unbroken, broken = (arguments.folder / who / NAME / "seed-0" for who in ("unbroken", "broken"))
    ended(start(arguments, arguments.folder / "unbroken"))
    epoch_seconds = read_epoch_log(unbroken / "metrics.csv")[-1]["seconds/train"]
    draws = random.Random(arguments.seed)  # noqa: S311
    kills = []
    for rows, whole in ((1, False), (arguments.epochs // 2, True)):
        process = start(arguments, arguments.folder / "broken")
        wait_for_rows(broken, rows, process)
        time.sleep(draws.uniform(0, epoch_seconds))
        if whole:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            os.kill(draws.choice(trainers(process)), signal.SIGKILL)
        _, said = process.communicate()
        kills.append(
            {
                "killed": "the command and all its processes" if whole else "one of the two processes",
                "status": process.returncode,
                "said": said.strip().splitlines()[-1] if said.strip() and not whole else "",
                "epochs_saved": epochs_done(broken / "checkpoints"),
            }
        )
        time.sleep(1)  # until the system has taken the lock from the processes killed
    ended(start(arguments, arguments.folder / "broken"))
    return {
        "benchmark": "killed_processes",
        "settings": {name: getattr(arguments, name) for name in ("train_per_class", "epochs", "seed")},
        "environment": environment(),
        "kills": kills,
        "different": differences(outcome(unbroken), outcome(broken)),
        "compared": len(outcome(unbroken)),
        "test_accuracy": outcome(unbroken)["scores.json/last/scores/test/main/top1/value"],
    }


def section(record: dict[str, Any]) -> str:
    """The section of the page."""
    settings, environment = record["settings"], record["environment"]
    kills = "; then ".join(
        f"{kill['killed']} after {kill['epochs_saved']} saved epochs (status {kill['status']})"
        for kill in record["kills"]
    )
    verdict = (
        "**the run ended as one never killed, bit for bit**"
        if not record["different"]
        else f"**{len(record['different'])} differ**: {', '.join(record['different'][:5])}"
    )
    return (
        f"DTSKD, quarter-width ResNet-18, {settings['train_per_class']} images of each class of CIFAR-100, "
        f"{settings['epochs']} epochs in bf16, two processes of one thread. Killed twice with SIGKILL: {kills}. "
        f"Weights, optimiser state, history, metrics and scores ({record['compared']} values and tensors): {verdict}. "
        f"torch {environment['packages']['torch']}, {environment['device']}.\n\n"
        "Written by `python benchmarks/killed_processes.py DATA_ROOT` from `results/killed_processes.json`.\n"
    )


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_root", nargs="?", type=Path, help="folder of CIFAR-100")
    parser.add_argument("--folder", type=Path, default=Path("runs/killed-processes"), help="gets the runs")
    parser.add_argument("--train-per-class", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0, help="of the times of the kills")
    parser.add_argument("--page", action="store_true", help="only write the section")
    arguments = parser.parse_args()
    if not arguments.page:
        if arguments.data_root is None:
            parser.error("DATA_ROOT is needed to measure")
        record = measure(arguments)
        RESULTS.write_text(json.dumps(record, indent=2) + "\n")
    record = json.loads(RESULTS.read_text())
    PAGE.write_text(with_section(PAGE.read_text(), "killed_processes", section(record)))
    print(section(record))


if __name__ == "__main__":
    main()
