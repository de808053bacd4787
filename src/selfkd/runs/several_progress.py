"""The progress of several runs: one bar for all of them, or a line in the log when one begins or ends."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from tqdm.auto import tqdm

from selfkd.progress_bars import log_above_bars, replaces_states
from selfkd.recipes.recipe import Recipe
from selfkd.runs.epoch_counts import EpochCount, logged_epochs
from selfkd.runs.run_folder import RunFolder

__all__ = ["SeveralProgress", "WatchedRun", "seconds_left"]

_FORMAT = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} epochs [{elapsed}{postfix}]"

_log = logging.getLogger("selfkd")


@dataclass
class WatchedRun:
    """The epochs of one run.

    Args:
        recipe: the run's recipe.
        folder: the run's folder.
        begins_anew: whether the epochs that are in the folder now do not count, because the run will be overwritten.

    Attributes:
        count: its epochs until now.
        has_begun: whether a process trains it, or has trained it.
        is_over: whether it has finished or failed.
        overhead: seconds that its process took to start and to finish; None if they are not known.
    """

    recipe: Recipe
    folder: RunFolder
    begins_anew: bool = False
    count: EpochCount = field(init=False)
    has_begun: bool = field(init=False, default=False)
    is_over: bool = field(init=False, default=False)
    overhead: float | None = field(init=False, default=None)
    _begin: tuple[float, int] = field(init=False, default=(0.0, 0))
    _state: tuple[int, int] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._state = self._state_of_log()
        self.count = logged_epochs(self.folder)
        if self.begins_anew:
            self.count = EpochCount(0, self.count.seconds)

    @property
    def epochs(self) -> int:
        """The length of the run."""
        epochs: int = self.recipe.options["trainer"]["epochs"]
        return epochs

    def look(self) -> None:
        """Count the epochs again if the log has changed."""
        state = self._state_of_log()
        if state is None or state != self._state:
            self._state, self.count = state, logged_epochs(self.folder)

    def begin(self) -> None:
        """Note that a process begins to train the run."""
        self.has_begun = True
        self._begin = time.monotonic(), self.count.done

    def end(self, error: str | None) -> None:
        """Note that the run has finished, or why it has not."""
        self.look()
        self.is_over = True
        if error is not None:
            return
        self.count = EpochCount(self.epochs, self.count.seconds)
        if self.has_begun and self.count.seconds is not None:
            begun, done = self._begin
            self.overhead = max(0.0, time.monotonic() - begun - (self.epochs - done) * self.count.seconds)

    def _state_of_log(self) -> tuple[int, int] | None:
        try:
            state = self.folder.metrics_file.stat()
        except OSError:
            return None
        return state.st_mtime_ns, state.st_size


def seconds_left(runs: Collection[WatchedRun], jobs: int) -> float | None:
    """Estimate how long the epochs that are left will take.

    An epoch of a recipe takes as long as those that the recipe's own runs have logged. A recipe without any gets the
    mean of the others. A run that has not begun also takes the time to start and to finish that others took.

    Args:
        runs: all runs.
        jobs: how many runs are trained beside each other.
    Returns: seconds; None if no run has logged an epoch.
    """
    logged: dict[str, list[float]] = {}
    for run in runs:
        if run.count.seconds is not None:
            logged.setdefault(run.recipe.name, []).append(run.count.seconds)
    if not logged:
        return None
    of_recipe = {name: statistics.fmean(seconds) for name, seconds in logged.items()}
    of_others = statistics.fmean(of_recipe.values())
    overheads = [run.overhead for run in runs if run.overhead is not None]
    overhead = statistics.fmean(overheads) if overheads else 0.0
    left = [
        (run.epochs - run.count.done) * of_recipe.get(run.recipe.name, of_others) + overhead * (not run.has_begun)
        for run in runs
        if not run.is_over
    ]
    # The longest run alone may take longer than its share.
    return max(sum(left) / jobs, max(left, default=0.0))


class SeveralProgress:
    """Shows the progress; a context manager.

    Args:
        runs: all runs, by any key.
        jobs: how many are trained beside each other.
        show_bar: show a progress bar on standard error; otherwise log a line when a run begins or ends.
    """

    def __init__(self, runs: Mapping[Any, WatchedRun], jobs: int, show_bar: bool) -> None:
        self._runs = runs
        self._jobs = jobs
        self._shows_bar = show_bar
        self._bar: tqdm[Any] | None = None
        self._opened = ExitStack()

    def __enter__(self) -> SeveralProgress:
        if self._shows_bar:
            bar = tqdm(
                desc=self._runs_over(),
                total=sum(run.epochs for run in self._runs.values()),
                initial=self._epochs_done(),
                bar_format=_FORMAT,
                mininterval=_interval(),
            )
            self._bar = self._opened.enter_context(bar)
            self._opened.enter_context(log_above_bars())
            self.refresh()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def check(self, done: int, total: int) -> None:
        """Show how many of the recipes are checked, before the first run begins."""
        if self._bar is not None:
            self._bar.set_postfix_str(f"checking recipes: {done}/{total}")
        elif done == 0:
            _log.info("checking %d recipes", total)

    def begin(self, key: Any) -> None:
        """Note that the training of a run begins or continues."""
        run = self._runs[key]
        run.begin()
        if self._bar is None:
            verb = f"continues after epoch {run.count.done}" if run.count.done else "begins"
            _log.info("%s seed %d %s; %s", run.recipe.name, run.recipe.seed, verb, self._summary())
        self.refresh()

    def end(self, key: Any, error: str | None = None) -> None:
        """Note that a run has finished, or why it has not."""
        run = self._runs[key]
        run.end(error)
        if error is not None:
            _log.warning("%s seed %d is not finished: %s", run.recipe.name, run.recipe.seed, error)
        elif self._bar is None:
            _log.info("%s seed %d is finished; %s", run.recipe.name, run.recipe.seed, self._summary())
        self.refresh()

    def refresh(self) -> None:
        """Count the epochs again, and show them."""
        if self._bar is None:
            return
        for run in self._runs.values():
            if not run.is_over:
                run.look()
        self._bar.n = self._epochs_done()
        self._bar.set_description_str(self._runs_over(), refresh=False)
        self._bar.set_postfix_str(self._time_left(), refresh=False)
        self._bar.update(0)

    def _summary(self) -> str:
        for run in self._runs.values():
            if not run.is_over:
                run.look()
        return f"{self._runs_over()}, {self._time_left()}"

    def _epochs_done(self) -> int:
        return sum(run.count.done for run in self._runs.values())

    def _runs_over(self) -> str:
        return f"{sum(run.is_over for run in self._runs.values())}/{len(self._runs)} runs"

    def _time_left(self) -> str:
        seconds = seconds_left(self._runs.values(), self._jobs)
        return "time left not known yet" if seconds is None else f"about {tqdm.format_interval(seconds)} left"


def _interval() -> float:
    """Seconds between two states of the bar: in a file each of them is kept."""
    return 0.5 if replaces_states() else 10.0
