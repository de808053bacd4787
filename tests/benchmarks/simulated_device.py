"""A simulated device with a clock of its own, on which the queue's trainings advance as time is slept."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpu_records import made_up_record

from selfkd.runs.run_folder import RunFolder


@dataclass
class SimulatedProcess:
    """A training of so many epochs; stops at SIGINT, unless it is deaf to it."""

    folder: RunFolder
    record: dict[str, Any]
    deaf: bool
    status: int | None = None
    progress: float = 0.0
    signals: list[int] = field(default_factory=list)

    def advance(self, epochs: float) -> None:
        rows = self.record["epochs"]
        before, self.progress = int(self.progress), min(self.progress + epochs, len(rows))
        if int(self.progress) > before:
            with self.folder.metrics_file.open("w", newline="") as file:
                writer = csv.DictWriter(file, rows[0])
                writer.writeheader()
                writer.writerows(rows[: int(self.progress)])
        if self.progress >= len(rows):
            for file, content in (
                (self.folder.environment_file, "environment"),
                (self.folder.data_file, "data"),
                (self.folder.scores_file, "scores"),
            ):
                file.write_text(json.dumps(self.record[content]))
            self.status = 0

    def poll(self) -> int | None:
        return self.status

    def wait(self, timeout: float | None = None) -> int:
        if self.status is None:
            raise subprocess.TimeoutExpired("training", timeout or 0)
        return self.status

    def send_signal(self, sig: int) -> None:
        self.signals.append(sig)
        if not self.deaf:
            self.status = 75

    def kill(self) -> None:
        self.signals.append(signal.SIGKILL)
        self.status = -signal.SIGKILL


class SimulatedDevice:
    """Starts simulated trainings and keeps the time.

    Args:
        records: the module run_records.
        seconds_per_epoch: of a training alone.
        slowdown: of each training, by how many there are.
        deaf: whether trainings ignore SIGINT.
        fails: recipes whose training fails at once.
    """

    def __init__(
        self,
        records: Any,
        seconds_per_epoch: float,
        slowdown: Callable[[int], float] = float,
        deaf: bool = False,
        fails: tuple[str, ...] = (),
    ) -> None:
        self.records, self.seconds_per_epoch, self.slowdown = records, seconds_per_epoch, slowdown
        self.deaf, self.fails = deaf, fails
        self.now = 0.0
        self.started: list[tuple[str, float]] = []  # recipe and time
        self.most = 0
        self.processes: list[SimulatedProcess] = []

    def clock(self) -> float:
        return self.now

    def start(self, item: Any, folder: RunFolder, runs: Path, place: Any) -> SimulatedProcess:
        assert not place.tiny
        folder.path.mkdir(parents=True, exist_ok=True)
        process = SimulatedProcess(folder, made_up_record(self.records, item.recipe, item.seed), self.deaf)
        if folder.metrics_file.exists():
            process.progress = len(folder.metrics_file.read_text().splitlines()) - 1
        if item.recipe in self.fails:
            process.status = 1
            (folder.path / "queue_log.txt").write_text("out of memory\n")
        self.started.append((item.recipe, self.now))
        self.processes.append(process)
        return process

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        running = [process for process in self.processes if process.status is None]
        self.most = max(self.most, len(running))
        for process in running:
            process.advance(seconds / (self.seconds_per_epoch * self.slowdown(len(running))))
