"""Which trainings of the queue run when, on one device, within the time of one call."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from queue_items import Item, Place, overrides_of, recipe_of, run_name
from run_records import Bundle, Pace, Paces, add_paces, finished_record

from selfkd.recipes.reader import Recipe
from selfkd.runs.run_folder import RunFolder
from selfkd.training.epoch_log import read_epoch_log

WORKER = Path(__file__).resolve().parent / "train_item.py"
MEASURED_EPOCHS = 3
"""Epochs after the first that a pace is measured over."""
GAIN = 1.05
"""How much faster in total side by side must be than one by one, to be chosen."""
_LOG = "queue_log.txt"
_LOG_LINES = 20


class Process(Protocol):
    """What is needed of `subprocess.Popen`."""

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...
    def kill(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The time of a call, in seconds, and how many trainings may share the device.

    Args:
        now: this call, from its start.
        later: further calls that are sure to follow on the same machine with the same runs; 0 if none.
        grace: kept at the end of this call for trainings to stop in.
        overhead: that a training takes beside its epochs: imports, data, the last evaluation.
        probe: that must be left to start a training whose pace is not known.
        parallel: trainings side by side at most.
    """

    now: float
    later: float = 0
    grace: float = 20
    overhead: float = 45
    probe: float = 90
    parallel: int = 1


@dataclass
class Training:
    """A training under way.

    Args:
        item: of the queue.
        recipe: the item resolved.
        folder: of the run.
        process: that trains.
        unknown: whether it was started without knowing how long it takes.
    """

    item: Item
    recipe: Recipe
    folder: RunFolder
    process: Process
    unknown: bool
    ticks: list[tuple[float, int]] = field(default_factory=list)
    warm: bool = False

    def __post_init__(self) -> None:
        self.done = epochs_logged(self.folder)

    def observe(self, now: float) -> None:
        """Look how many epochs are done; `ticks` keeps when each number was first seen."""
        done = epochs_logged(self.folder)
        if done > self.done:
            self.done, self.warm = done, True
            self.ticks.append((now, done))

    def seconds_per_epoch(self) -> float | None:
        """By the wall clock; None until enough epochs were seen."""
        if not self.ticks or self.ticks[-1][1] - self.ticks[0][1] < MEASURED_EPOCHS:
            return None
        (start, first), (end, last) = self.ticks[0], self.ticks[-1]
        return (end - start) / (last - first)


class SideBySide:
    """How many trainings share the device: one, until several are measured to be faster in total.

    The first training runs alone until its pace is known, then with the others; its slowdown decides, once.

    Args:
        most: trainings at most.
        tell: called with what was measured.
    """

    def __init__(self, most: int, tell: Callable[[dict[str, Any]], None]) -> None:
        self.limit = 1
        self._most, self._tell = most, tell
        self._alone: tuple[Item, float] | None = None
        self._decided = most == 1

    def consider(self, trainings: Sequence[Training]) -> None:
        """Look at what runs and set `limit`."""
        if self._decided or not trainings:
            return
        first, pace = trainings[0], trainings[0].seconds_per_epoch()
        if self._alone is not None and self._alone[0] != first.item:
            self._alone, self.limit = None, 1  # what was to be compared has ended
        if pace is None or not all(training.warm for training in trainings):
            return
        if len(trainings) == 1:
            self._alone, self.limit = (first.item, pace), self._most
        elif self._alone is not None:
            count, alone = len(trainings), self._alone[1]
            gain = count * alone / pace
            self.limit, self._decided = (self._most if gain > GAIN else 1), True
            self._tell({"recipe": first.recipe.name, "count": count, "alone": alone, "shared": pace, "gain": gain})


def epochs_logged(folder: RunFolder) -> int:
    """Epochs that a run's log holds."""
    return len(read_epoch_log(folder.metrics_file))


def start_process(item: Item, folder: RunFolder, runs: Path, place: Place) -> Process:
    """Train an item in a process of its own; what it says goes into the run's folder."""
    folder.path.mkdir(parents=True, exist_ok=True)
    overrides = [f"{key}={value}" for key, value in overrides_of(item, place).items()]
    with (folder.path / _LOG).open("a") as log:
        # A group of its own keeps a terminal's Ctrl-C from it, which the scheduler passes on once.
        return subprocess.Popen(
            [sys.executable, str(WORKER), item.recipe, str(runs), *overrides],
            stdout=log,
            stderr=subprocess.STDOUT,
            process_group=0,
        )


class Scheduler:
    """Works through the items of a queue and brings back what is finished.

    Args:
        items: not finished by the records of the repository, in their order.
        limits: time and number.
        runs: folder of all runs, outside the repository; the next call on the same machine continues what is there.
        bundle: gets records and paces.
        paces: known so far.
        place: where and how they are trained.
        start: starts a training.
        clock: seconds.
        sleep: between two looks at the trainings.
        poll: seconds between two looks.
    """

    def __init__(
        self,
        items: Sequence[Item],
        limits: Limits,
        runs: Path,
        bundle: Bundle,
        paces: Paces,
        place: Place,
        *,
        start: Callable[[Item, RunFolder, Path, Place], Process] = start_process,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        poll: float = 0.25,
    ) -> None:
        self.failed: list[Item] = []
        self._pending = list(items)
        self._limits, self._runs, self._bundle, self._paces = limits, runs, bundle, paces
        self._place = place
        self._start, self._clock, self._sleep, self._poll = start, clock, sleep, poll
        self._trainings: list[Training] = []
        self._training_set: frozenset[Item] = frozenset()
        self._crowd = SideBySide(limits.parallel, self._note_choice)
        self._ends = clock() + limits.now - limits.grace

    def work(self) -> None:
        """Train until the queue is empty, nothing more fits, or the time is up; then nothing runs any more."""
        self._bring_back_finished()
        try:
            while True:
                self._settle_ended()
                if self._clock() >= self._ends:
                    self._say("time is up")
                    return
                self._fill()
                if not self._trainings:
                    return
                self._observe()
                self._sleep(self._poll)
        finally:
            self._stop(self._trainings)

    def _say(self, text: str) -> None:
        print(text, flush=True)

    def _left(self) -> float:
        return self._ends - self._clock()

    def _bring_back_finished(self) -> None:
        """Bring back what finished in earlier calls on this machine and is not in the repository."""
        for item in list(self._pending):
            if (self._runs / run_name(item, self._place.tiny)).is_dir():
                recipe = recipe_of(item, self._place)
                folder = RunFolder.of(recipe, self._runs)
                if folder.scores_file.exists():
                    self._pending.remove(item)
                    self._bring_back(item, folder, recipe, None)

    def _fill(self) -> None:
        """Start what fits, in the queue's order, while there is room; what does not fit is left for other calls."""
        while self._pending and len(self._trainings) < self._crowd.limit and self._room_for_another():
            item = self._pending.pop(0)
            recipe = recipe_of(item, self._place)
            folder = RunFolder.of(recipe, self._runs)
            needed = self._seconds_needed(recipe, folder, len(self._trainings) + 1)
            if needed is None and self._left() < self._limits.probe:
                self._say(f"not started: {item}: not measured yet, {self._left():.0f} s left")
            elif needed is not None and needed > self._left() + self._limits.later:
                self._say(f"not started: {item}: needs {needed:.0f} s; {self._time_left()}")
            else:
                process = self._start(item, folder, self._runs, self._place)
                self._trainings.append(Training(item, recipe, folder, process, unknown=needed is None))
                about = "pace not known" if needed is None else f"needs about {needed:.0f} s"
                self._say(f"started: {item} after epoch {epochs_logged(folder)}; {about}")

    def _room_for_another(self) -> bool:
        """Whether all that runs could still finish if the device were shared with one more."""
        needed = [self._seconds_needed(t.recipe, t.folder, len(self._trainings) + 1) for t in self._trainings]
        return all(seconds is not None and seconds <= self._left() + self._limits.later for seconds in needed)

    def _time_left(self) -> str:
        later = self._limits.later
        return f"{self._left():.0f} s left" + (f" and {later:.0f} s in later calls" if later else "")

    def _seconds_needed(self, recipe: Recipe, folder: RunFolder, parallel: int) -> float | None:
        """What a training still takes; None if nothing is measured."""
        pace = self._paces.seconds_per_epoch(recipe.name, parallel)
        rows = read_epoch_log(folder.metrics_file)
        if pace is None and len(rows) > MEASURED_EPOCHS:  # of an earlier call whose paces were lost
            times = [row["seconds/train"] + row["seconds/evaluate"] for row in rows[1:]]
            pace = sum(times) / len(times)
        if pace is None:
            return None
        epochs: int = recipe.options["trainer"]["epochs"]
        return (epochs - len(rows)) * pace + self._limits.overhead

    def _observe(self) -> None:
        """Measure paces; stop what turns out not to fit, and what side by side is slower than one by one."""
        now = self._clock()
        for training in self._trainings:
            training.observe(now)
        warm = frozenset(training.item for training in self._trainings if training.warm)
        if warm != self._training_set:  # paces hold for what shared the device
            self._training_set = warm
            for training in self._trainings:
                training.ticks.clear()
        for training in [training for training in self._trainings if training.unknown]:
            pace = self._pace_of(training)
            if pace is None:
                continue
            training.unknown = False
            self._paces.add(pace)
            needed = self._seconds_needed(training.recipe, training.folder, pace.parallel)
            if needed is not None and needed > self._left() + self._limits.later:
                self._say(f"stopped: {training.item}: still needs {needed:.0f} s; {self._time_left()}")
                self._stop([training])
        self._crowd.consider(self._trainings)
        surplus = self._trainings[self._crowd.limit :]
        if surplus:
            self._stop(surplus)
            self._pending[:0] = [training.item for training in surplus]

    def _pace_of(self, training: Training) -> Pace | None:
        seconds = training.seconds_per_epoch()
        if seconds is None:
            return None
        epochs = training.ticks[-1][1] - training.ticks[0][1]
        return Pace(training.recipe.name, self._paces.device, len(self._training_set), seconds, epochs)

    def _settle_ended(self) -> None:
        """Bring back trainings that ended by themselves."""
        for training in list(self._trainings):
            status = training.process.poll()
            if status is not None:
                training.observe(self._clock())
                self._settle(training, status)

    def _stop(self, trainings: Sequence[Training]) -> None:
        """Let trainings stop as at Ctrl-C; those that do not in time are killed, and lose the epoch under way."""
        trainings = list(trainings)
        for training in trainings:
            training.process.send_signal(signal.SIGINT)
        for training in trainings:
            try:
                status = training.process.wait(self._limits.grace)
            except subprocess.TimeoutExpired:
                training.process.kill()
                status = training.process.wait()
            self._settle(training, status, stopped=True)

    def _settle(self, training: Training, status: int, stopped: bool = False) -> None:
        """Note how a training ended: finished, stopped by us, or failed."""
        pace = self._pace_of(training)
        self._trainings.remove(training)
        if pace is not None:
            self._paces.add(pace)
            self._bundle.add_pace(pace)
            add_paces(self._runs, [pace])
        if status == 0:
            self._bring_back(training.item, training.folder, training.recipe, pace)
        elif stopped:
            self._say(f"unfinished: {training.item} after epoch {epochs_logged(training.folder)}")
        else:
            self.failed.append(training.item)
            log = (training.folder.path / _LOG).read_text(encoding="utf-8", errors="replace").splitlines()
            self._say("\n".join([f"failed: {training.item}, exit status {status}", *log[-_LOG_LINES:]]))

    def _bring_back(self, item: Item, folder: RunFolder, recipe: Recipe, pace: Pace | None) -> None:
        self._bundle.add_run(finished_record(folder, recipe, pace))
        accuracy = folder.scores()["last"]["scores"]["test"]["main"]["top1"]["value"]
        self._say(f"finished: {item}: {accuracy:.2f} % after the last epoch")

    def _note_choice(self, measured: dict[str, Any]) -> None:
        self._bundle.add_choice(measured)
        self._say(
            f"side by side: {measured['count']} at a time are {measured['gain']:.2f} times as fast in total as one"
        )
