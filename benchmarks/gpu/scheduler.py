"""Which trainings of the queue run when, on one device, within the time of one call."""

from __future__ import annotations

import math
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from queue_items import CHECKPOINT_EVERY, Item, Place, overrides_of, recipe_of, run_name
from run_records import Bundle, Pace, Paces, add_paces, finished_record, source_digest

from selfkd.recipes.recipe import Recipe
from selfkd.runs.records import read_json, write_json
from selfkd.runs.run_folder import RunFolder
from selfkd.training.checkpoint_files import epochs_done
from selfkd.training.epoch_log import read_epoch_log

WORKER = Path(__file__).resolve().parent / "train_item.py"
COLD_EPOCHS = 2
"""Epochs of every start that no pace is measured over: each may compile, the second for having a history to read."""
MEASURED_EPOCHS = 3
"""Epochs that a pace is measured over at least."""
CLOSE_EPOCHS = 15
"""Epochs that it is measured over where it is close whether a training fits."""
FAILURES = 3
"""Trainings that fail in a row, without an epoch, before it is taken for no fault of theirs."""
GAIN = 1.05
"""How much faster in total side by side must be than one by one, to be chosen."""
_LOG = "queue_log.txt"
_LOG_LINES = 20
_FAILURE = "queue_failure.json"


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
        now: this call, from the start of its process.
        later: further calls that are sure to follow on the same machine with the same runs; 0 if none.
        grace: kept at the end of this call for trainings to stop in.
        start: that a training takes before its epochs, where nothing is measured: imports, data.
        compilation: that it takes besides if its step is compiled.
        end: that it takes after its epochs: the evaluation of its last and its best epoch.
        probe: that must be left, later calls included, to start a training whose pace is not known.
        parallel: trainings side by side at most.
    """

    now: float
    later: float = 0
    grace: float = 20
    start: float = 25
    compilation: float = 120
    end: float = 20
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
        started: when.
        unknown: whether it is not known yet how long it takes.
    Attributes:
        done: epochs that are done, counted from where it continued; an epoch since the last checkpoint counts.
        warm: whether its epochs have the pace that they will keep.
        seconds_to_start: until then, without the time that those epochs would have taken at that pace.
    """

    item: Item
    recipe: Recipe
    folder: RunFolder
    process: Process
    started: float
    unknown: bool
    ticks: list[tuple[float, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.done = self._continued = epochs_done(self.folder.checkpoints)
        # What an attempt logged after its last checkpoint stays in the file until this one logs its first epoch.
        self._left_behind = read_epoch_log(self.folder.metrics_file)
        self._seconds: dict[int, float] = {}
        self._warm_at: float | None = None

    @property
    def warm(self) -> bool:
        return self._warm_at is not None

    @property
    def has_done_an_epoch(self) -> bool:
        """Since it was started."""
        return self.done > self._continued

    def observe(self, now: float) -> None:
        """Look how many epochs are done; `ticks` keeps when each number was first seen, of those with a steady pace."""
        rows = read_epoch_log(self.folder.metrics_file)
        if rows == self._left_behind:
            return
        self._seconds = {int(row["epoch"]): _seconds_of(row) for row in rows}
        done = max(self._seconds, default=0)
        if done <= self.done:
            return
        self.done = done
        if done - self._continued >= COLD_EPOCHS:
            self._warm_at = now if self._warm_at is None else self._warm_at
            self.ticks.append((now, done))

    def measured_epochs(self) -> int:
        """Epochs that the pace is measured over."""
        return self.ticks[-1][1] - self.ticks[0][1] if self.ticks else 0

    def seconds_per_epoch(self) -> float | None:
        """As the log says, and what the clock says that passes between its rows; None until enough epochs were seen."""
        if self.measured_epochs() < MEASURED_EPOCHS:
            return None
        return statistics.fmean(self._measured()) + self._between_epochs()

    def error_of_pace(self, poll: float) -> float:
        """How much the pace may be wrong, in seconds: twice the standard error, and what the clock leaves open.

        Args:
            poll: seconds between two looks.
        """
        seconds = self._measured()
        clock = poll / len(seconds)
        if len(seconds) < CHECKPOINT_EVERY:  # a checkpoint, which falls between some epochs only, weighs too much yet
            clock = max(clock, self._between_epochs())
        return 2 * statistics.stdev(seconds) / math.sqrt(len(seconds)) + clock

    def seconds_to_start(self) -> float | None:
        """None until it is known."""
        pace = self.seconds_per_epoch()
        if pace is None or self._warm_at is None:
            return None
        return max(0.0, self._warm_at - self.started - COLD_EPOCHS * pace)

    def _measured(self) -> list[float]:
        return [self._seconds[epoch] for epoch in range(self.ticks[0][1] + 1, self.ticks[-1][1] + 1)]

    def _between_epochs(self) -> float:
        """Seconds an epoch that no row of the log holds: checkpoints, for one."""
        by_the_clock = (self.ticks[-1][0] - self.ticks[0][0]) / self.measured_epochs()
        return max(0.0, by_the_clock - statistics.fmean(self._measured()))


def _seconds_of(row: dict[str, float]) -> float:
    return row["seconds/train"] + row["seconds/evaluate"]


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
        started: when the call began; now if left out.
        sleep: between two looks at the trainings.
        poll: seconds between two looks.
        retry: whether to start again what failed in an earlier call with the same source.
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
        started: float | None = None,
        sleep: Callable[[float], None] = time.sleep,
        poll: float = 0.25,
        retry: bool = False,
    ) -> None:
        self.failed: list[Item] = []
        self._pending = list(items)
        self._limits, self._runs, self._bundle, self._paces = limits, runs, bundle, paces
        self._place = place
        self._start, self._clock, self._sleep, self._poll = start, clock, sleep, poll
        self._trainings: list[Training] = []
        self._training_set: frozenset[Item] = frozenset()
        self._crowd = SideBySide(limits.parallel, self._note_choice)
        self._ends = (clock() if started is None else started) + limits.now - limits.grace
        self._retry = retry
        self._failures: list[RunFolder] = []  # in a row, without an epoch

    def work(self) -> None:
        """Train until the queue is empty, nothing more fits, or the time is up; then nothing runs any more."""
        self._bring_back_finished()
        try:
            while True:
                self._settle_ended()
                if len(self._failures) >= FAILURES:
                    self._give_up()
                    return
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
            needed = self._seconds_of_another(recipe, folder)
            reason = self._why_not(recipe, folder, needed)
            if reason is not None:
                self._say(f"not started: {item}: {reason}")
                continue
            (folder.path / _FAILURE).unlink(missing_ok=True)
            started, process = self._clock(), self._start(item, folder, self._runs, self._place)
            self._trainings.append(Training(item, recipe, folder, process, started, unknown=needed is None))
            about = "pace not known" if needed is None else f"needs about {needed:.0f} s"
            self._say(f"started: {item} after epoch {epochs_done(folder.checkpoints)}; {about}")

    def _why_not(self, recipe: Recipe, folder: RunFolder, needed: float | None) -> str | None:
        """Why an item that needs so many seconds is not started, or None."""
        if not self._retry and self._failed_before(folder):
            return f"it failed in an earlier call with this source, see {folder.path / _LOG}; --retry tries it again"
        if self._left() < self._seconds_to_start(recipe):
            return f"it takes {self._seconds_to_start(recipe):.0f} s to start, {self._left():.0f} s left"
        if needed is None and self._left() + self._limits.later < self._limits.probe:
            return f"not measured yet, {self._time_left()}"
        if needed is not None and needed > self._left() + self._limits.later:
            return f"needs {needed:.0f} s; {self._time_left()}"
        return None

    def _room_for_another(self) -> bool:
        """Whether all that runs could still finish if the device were shared with one more."""
        needed = [self._seconds_still_needed(training, len(self._trainings) + 1) for training in self._trainings]
        return all(seconds is not None and seconds <= self._left() + self._limits.later for seconds in needed)

    def _time_left(self) -> str:
        later = self._limits.later
        return f"{self._left():.0f} s left" + (f" and {later:.0f} s in later calls" if later else "")

    def _seconds_of_another(self, recipe: Recipe, folder: RunFolder) -> float | None:
        """What a training takes that would be started now; None if nothing is measured."""
        pace = self._paces.seconds_per_epoch(recipe.name, len(self._trainings) + 1, self._place.mode)
        done = epochs_done(folder.checkpoints)
        if pace is None and self._place.mode == "false":  # of an earlier call whose paces were lost
            times = [_seconds_of(row) for row in read_epoch_log(folder.metrics_file)[COLD_EPOCHS:]]
            pace = statistics.fmean(times) if len(times) >= MEASURED_EPOCHS else None
        if pace is None:
            return None
        return self._seconds_to_start(recipe) + self._seconds_of_epochs(recipe, done, pace)

    def _seconds_still_needed(self, training: Training, parallel: int) -> float | None:
        """What a training under way still takes with so many side by side; None if nothing is measured."""
        pace = self._paces.seconds_per_epoch(training.recipe.name, parallel, self._place.mode)
        if pace is None:
            return None
        start = 0.0
        if not training.warm:
            start = max(0.0, training.started + self._seconds_to_start(training.recipe) - self._clock())
        return start + self._seconds_of_epochs(training.recipe, training.done, pace)

    def _seconds_of_epochs(self, recipe: Recipe, done: int, pace: float) -> float:
        """The rest of a training after so many epochs."""
        epochs: int = recipe.options["trainer"]["epochs"]
        return (epochs - done) * pace + self._limits.end

    def _seconds_to_start(self, recipe: Recipe) -> float:
        """Measured, or what the limits allow for it."""
        measured = self._paces.seconds_to_start(recipe.name, self._place.mode)
        if measured is not None:
            return measured
        return self._limits.start + (0 if self._place.mode == "false" else self._limits.compilation)

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
            self._look_whether_it_fits(training)
        self._crowd.consider(self._trainings)
        surplus = self._trainings[self._crowd.limit :]
        if surplus:
            self._stop(surplus)
            self._pending[:0] = [training.item for training in surplus]

    def _look_whether_it_fits(self, training: Training) -> None:
        """Stop a training of unknown pace once it surely misses its time; where that is close, look on."""
        pace = self._pace_of(training)
        if pace is None:
            return
        self._paces.add(pace)
        needed = self._seconds_still_needed(training, pace.parallel)
        assert needed is not None
        missing = needed - self._left() - self._limits.later
        epochs = training.recipe.options["trainer"]["epochs"] - training.done
        error = epochs * training.error_of_pace(self._poll)
        training.unknown = missing > -error and pace.epochs < CLOSE_EPOCHS
        if missing > error:
            self._say(f"stopped: {training.item}: still needs {needed:.0f} s; {self._time_left()}")
            self._stop([training])

    def _pace_of(self, training: Training) -> Pace | None:
        seconds = training.seconds_per_epoch()
        if seconds is None:
            return None
        return Pace(
            training.recipe.name,
            self._paces.device,
            len(self._training_set),
            seconds,
            training.measured_epochs(),
            self._place.mode,
            training.seconds_to_start(),
        )

    def _settle_ended(self) -> None:
        """Bring back trainings that ended by themselves."""
        for training in list(self._trainings):
            status = training.process.poll()
            if status is not None:
                training.observe(self._clock())
                self._settle(training, status)

    def _stop(self, trainings: Sequence[Training]) -> None:
        """Let trainings stop as at Ctrl-C; those that do not in time are killed. What follows a checkpoint is lost."""
        trainings = list(trainings)
        for training in trainings:
            training.process.send_signal(signal.SIGINT)
        deadline = self._clock() + self._limits.grace
        for training in trainings:
            try:
                status = training.process.wait(max(0.0, deadline - self._clock()))
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
            self._failures = []
            self._bring_back(training.item, training.folder, training.recipe, pace)
        elif stopped:
            self._say(f"unfinished: {training.item} after epoch {epochs_done(training.folder.checkpoints)}")
        else:
            self.failed.append(training.item)
            self._failures = [] if training.has_done_an_epoch else [*self._failures, training.folder]
            write_json(training.folder.path / _FAILURE, self._failure(status))
            log = (training.folder.path / _LOG).read_text(encoding="utf-8", errors="replace").splitlines()
            self._say("\n".join([f"failed: {training.item}, exit status {status}", *log[-_LOG_LINES:]]))

    def _failure(self, status: int) -> dict[str, Any]:
        """What is noted of a failed training, so that no later call repeats it."""
        return {"status": status, "source": source_digest(), "compiled": self._place.mode}

    def _failed_before(self, folder: RunFolder) -> bool:
        """Whether this training has failed, as it is."""
        file = folder.path / _FAILURE
        if not file.exists():
            return False
        noted = read_json(file)
        return bool(noted == self._failure(noted.get("status")))

    def _give_up(self) -> None:
        """End a call in which nothing trains; that is not held against the runs."""
        for folder in self._failures:
            (folder.path / _FAILURE).unlink(missing_ok=True)
        self._say(f"{FAILURES} trainings in a row failed without an epoch: the rest of the queue is left alone")

    def _bring_back(self, item: Item, folder: RunFolder, recipe: Recipe, pace: Pace | None) -> None:
        self._bundle.add_run(finished_record(folder, recipe, pace))
        accuracy = folder.scores()["last"]["scores"]["test"]["main"]["top1"]["value"]
        self._say(f"finished: {item}: {accuracy:.2f} % after the last epoch")

    def _note_choice(self, measured: dict[str, Any]) -> None:
        self._bundle.add_choice(measured)
        self._say(
            f"side by side: {measured['count']} at a time are {measured['gain']:.2f} times as fast in total as one"
        )
