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
from selfkd.training.checkpoint_files import epochs_done
from selfkd.training.checkpoint_names import checkpoint_folder

CHECKPOINT_EVERY = 10


@dataclass
class SimulatedProcess:
    """A training of so many epochs; stops at SIGINT, unless it is deaf to it.

    Continues from its last checkpoint; `waits` are seconds before its first epochs.
    """

    device: SimulatedDevice
    folder: RunFolder
    record: dict[str, Any]
    deaf: bool
    waits: list[float]
    status: int | None = None
    progress: float = 0.0
    signals: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.progress = float(epochs_done(self.folder.checkpoints))

    def advance(self, seconds: float, seconds_per_epoch: float) -> None:
        while seconds > 0 and self.status is None:
            if self.waits and self.progress == int(self.progress):
                waited = min(seconds, self.waits[0])
                self.waits[0] -= waited
                seconds -= waited
                if self.waits[0] > 0:
                    return
                self.waits.pop(0)
            # Whole epochs at most, so that what has to be waited for after them is.
            rest = (int(self.progress) + 1 - self.progress) * seconds_per_epoch
            taken = min(seconds, rest)
            seconds -= taken
            done = int(self.progress) + 1 if taken == rest else self.progress + taken / seconds_per_epoch
            self._go_to(done, seconds_per_epoch)

    def _go_to(self, progress: float, seconds_per_epoch: float) -> None:
        rows = self.record["epochs"]
        before, self.progress = int(self.progress), progress
        if int(self.progress) > before:
            done = int(self.progress)
            rows[done - 1] |= {"seconds/train": 0.9 * seconds_per_epoch, "seconds/evaluate": 0.1 * seconds_per_epoch}
            if done % CHECKPOINT_EVERY == 0 or done == len(rows):
                checkpoint = checkpoint_folder(self.folder.checkpoints, done)
                checkpoint.mkdir(parents=True)
                (checkpoint / "training.ckpt").touch()
                (checkpoint / "checksums.json").write_text('{"training.ckpt": {"bytes": 0, "crc32": 0}}')
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
            self.device.now += timeout or 0
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
        waits: seconds before the first epochs of every start: imports and compilation.
    """

    def __init__(
        self,
        records: Any,
        seconds_per_epoch: float,
        slowdown: Callable[[int], float] = float,
        deaf: bool = False,
        fails: tuple[str, ...] = (),
        waits: tuple[float, ...] = (),
    ) -> None:
        self.records, self.seconds_per_epoch, self.slowdown = records, seconds_per_epoch, slowdown
        self.deaf, self.fails, self.waits = deaf, fails, waits
        self.now = 0.0
        self.started: list[tuple[str, float]] = []  # recipe and time
        self.most = 0
        self.processes: list[SimulatedProcess] = []

    def clock(self) -> float:
        return self.now

    def start(self, item: Any, folder: RunFolder, runs: Path, place: Any) -> SimulatedProcess:
        assert not place.tiny
        folder.path.mkdir(parents=True, exist_ok=True)
        record = made_up_record(self.records, item.recipe, item.seed)
        process = SimulatedProcess(self, folder, record, self.deaf, list(self.waits))
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
            process.advance(seconds, self.seconds_per_epoch * self.slowdown(len(running)))
