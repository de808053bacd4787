"""Train several runs, each in a process of its own: one failed run does not end the others."""

from __future__ import annotations

import itertools
import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from selfkd.cores import available_cores, limited_to
from selfkd.errors import OptionError, RunInterruptedError, SelfKDError, UserError, first_line
from selfkd.given_paths import check_path
from selfkd.option_checks import at_least
from selfkd.recipes.recipe import Recipe
from selfkd.recipes.several import each_once
from selfkd.recipes.teacher_recipes import teachers_first
from selfkd.runs.loading import SavedRun
from selfkd.runs.prepare import as_begun, check_finished, check_recipe
from selfkd.runs.run import Run
from selfkd.runs.run_folder import RunFolder
from selfkd.runs.several_progress import SeveralProgress, WatchedRun
from selfkd.runs.train import check_training
from selfkd.runs.training_process import Training, TrainingProcess, check_importable, stop_all
from selfkd.signals import StopSignal, stopping_on_signals, stops_deferred
from selfkd.training.processes import launcher_name

__all__ = ["TrainingOutcome", "train_several"]

_PAUSE_SECONDS = 0.1
_TIME_IS_UP = "the time is up"

Key = tuple[str, int]
"""The name and the seed of a run, which give its folder."""

_log = logging.getLogger("selfkd")


@dataclass(frozen=True)
class TrainingOutcome:
    """How the training of a run ended.

    Args:
        recipe: what was to be trained.
        folder: the run's folder, which may not exist if there is an error.
        error: why the run is not finished; None if it is finished.
    """

    recipe: Recipe
    folder: RunFolder
    error: str | None

    @property
    def run(self) -> Run:
        """The run, finished or not. Its files are read when they are needed."""
        return Run(SavedRun(self.folder, self.recipe))


def train_several(
    recipes: Sequence[Recipe],
    runs: Path,
    jobs: int = 1,
    show_progress: bool = True,
    trust_imports: bool = False,
    seconds: float | None = None,
    overwrite: bool = False,
    keep_logits: bool = False,
) -> list[TrainingOutcome]:
    """Train recipes, each in a process of its own, and return how each of them ended.

    An unfinished run is continued, a finished one is kept. Teachers that are recipes are trained first, each once.
    Every recipe is checked before the first one is trained. A run that fails does not end the others. The processes
    divide the cores of the machine, work in the current folder, and never outlive this process.

    Args:
        recipes: what to train, in this order.
        runs: the folder of all runs.
        jobs: how many runs are trained beside each other.
        show_progress: show one progress bar for all runs; otherwise log a line when a run begins or ends.
        trust_imports: let the recipe of a teacher name `package.module:Name`, whose import runs code.
        seconds: stop after so many seconds; the runs that are not finished then can be continued. None for no limit.
        overwrite: delete the runs of `recipes` that are there and begin anew. A teacher's run is kept all the same.
        keep_logits: let each run of `recipes` that is trained now keep the logits of all test images after the last
            epoch, as `selfkd.evaluate` does.
    Returns: one outcome for each recipe, in their order.
    Raises:
        OptionError: if `jobs` or `seconds` is out of range.
        UserError: if two recipes would share a run folder, a teacher's recipe cannot be resolved, `runs` cannot be
            used, none of the recipes can be trained, or torchrun or srun has started this process.
        RunInterruptedError: on Ctrl-C or SIGTERM, after all processes have ended. The same call continues.
    """
    at_least("jobs", jobs, 1)
    if seconds is not None and not seconds > 0:
        raise OptionError("seconds", seconds, "a number > 0")
    for recipe in recipes:
        recipe.check_sendable("each of several runs is trained in a process of its own")
    launcher = launcher_name()
    if launcher is not None:
        raise UserError(f"{launcher} starts the processes of one run, but here are {len(recipes)}; start one at a time")
    trainings = _Trainings(recipes, runs, jobs, trust_imports, overwrite, keep_logits)
    with stopping_on_signals(), SeveralProgress(trainings.watched, jobs, show_progress) as progress:
        errors = trainings.run(progress, seconds)
    keys = [_key(recipe) for recipe in recipes]
    return [TrainingOutcome(trainings.recipes[key], trainings.watched[key].folder, errors[key]) for key in keys]


class _Trainings:
    """The runs to train, and their processes. The arguments are those of `train_several`."""

    def __init__(
        self,
        recipes: Sequence[Recipe],
        runs: Path,
        jobs: int,
        trust_imports: bool,
        overwrite: bool,
        keep_logits: bool,
    ) -> None:
        self.runs, self.jobs, self.trust_imports = runs, jobs, trust_imports
        self.asked = {_key(recipe) for recipe in recipes}
        self.overwritten = self.asked if overwrite else set()
        self.keeping_logits = self.asked if keep_logits else set()
        self.advice = f"the same command{' without --overwrite' if overwrite else ''} continues"
        begun = [as_begun(RunFolder.of(recipe, runs), recipe) for recipe in recipes]
        chains = [self._with_teachers(recipe) for recipe in begun]
        self.recipes = {_key(recipe): recipe for recipe in each_once(recipe for chain in chains for recipe in chain)}
        pairs = (pair for chain in chains for pair in itertools.pairwise(chain))
        self.teacher_of = {_key(student): _key(teacher) for teacher, student in pairs}
        self.watched = {
            key: WatchedRun(recipe, RunFolder.of(recipe, runs), key in self.overwritten)
            for key, recipe in self.recipes.items()
        }
        self.waiting = list(self.recipes)
        self.running: dict[Key, TrainingProcess] = {}
        self.errors: dict[Key, str | None] = {}

    def _with_teachers(self, student: Recipe) -> list[Recipe]:
        """A recipe after the teachers that it needs, as far as they are not finished: the last is its own teacher."""
        check_path(RunFolder.of(student, self.runs).path)
        chain = [student]
        teachers = [] if self._is_kept(student) else teachers_first(student, self.trust_imports)
        for teacher in reversed(teachers):
            check_path(RunFolder.of(teacher, self.runs).path)
            chain.insert(0, teacher)
            if self._is_kept(teacher):
                break
        return chain

    def run(self, progress: SeveralProgress, seconds: float | None) -> dict[Key, str | None]:
        """Train all runs. Returns why each of them is not finished; None for a finished one."""
        deadline = None if seconds is None else time.monotonic() + seconds
        with tempfile.TemporaryDirectory(prefix="selfkd-") as files, ExitStack() as closing:
            closing.callback(self._close)
            try:
                self._check(progress)
                while self.waiting or self.running:
                    if deadline is not None and time.monotonic() > deadline:
                        self._stop_in_time(progress)
                        break
                    self._collect(progress)
                    self._start_ready(progress, Path(files))
                    progress.refresh()
                    time.sleep(_PAUSE_SECONDS)
            except StopSignal as stop:
                self._stop()
                finished = [key for key, error in self.errors.items() if error is None]
                finished += [key for key in self.waiting if self._is_kept(self.recipes[key])]
                raise RunInterruptedError(
                    f"stopped; {len(finished)} of {len(self.recipes)} runs are finished; {self.advice}", stop.number
                ) from stop
        return self.errors

    def _check(self, progress: SeveralProgress) -> None:
        """Check each recipe with one of its seeds, so that mistakes show at once and not after hours.

        Raises: SelfKDError: if no recipe can be trained; that of the first recipe.
        """
        unfinished = {key: recipe for key, recipe in self.recipes.items() if not self._is_kept(recipe)}
        first_seeds: dict[str, Recipe] = {}
        for recipe in unfinished.values():
            first_seeds.setdefault(recipe.name, recipe)
        faults: dict[str, SelfKDError] = {}
        with _each_message_once():
            for number, (name, recipe) in enumerate(first_seeds.items()):
                progress.check(number, len(first_seeds))
                teacher = self.teacher_of.get(_key(recipe))
                untrained_teacher = None if teacher is None else unfinished.get(teacher)
                try:
                    check_importable(recipe)
                    for warning in check_training(recipe, self.runs, self.trust_imports, untrained_teacher):
                        _log.warning("%s", warning)
                except SelfKDError as error:
                    faults[name] = error
        if self.asked and all(key in unfinished and key[0] in faults for key in self.asked):
            raise next(iter(faults.values()))
        for key in unfinished:
            if key[0] in faults:
                self._end(key, str(faults[key[0]]), progress)
        for key in reversed(self.recipes):  # a teacher after its students
            students = [student for student, teacher in self.teacher_of.items() if teacher == key]
            if key not in {*self.asked, *self.errors} and all(student in self.errors for student in students):
                self._end(key, "its students cannot be trained", progress)
        self.waiting = [key for key in self.waiting if key not in self.errors]

    def _start_ready(self, progress: SeveralProgress, files: Path) -> None:
        """Start the runs whose turn it is. A finished run is checked in this process, and a bad one gets an error."""
        for key in list(self.waiting):
            teacher = self.teacher_of.get(key)
            if teacher is not None and teacher not in self.errors:
                continue
            if teacher is not None and self.errors[teacher] is not None:
                name, seed = teacher
                self._end(key, f"its teacher {name} seed {seed} is not finished: {self.errors[teacher]}", progress)
            elif self._is_kept(self.recipes[key]):
                self._end(key, self._fault_of_finished(self.recipes[key]), progress)
            elif len(self.running) < self.jobs:
                try:
                    self._start(key, files / str(len(self.recipes) - len(self.waiting)))
                    progress.begin(key)
                except OSError as error:  # too little memory, or a full disk
                    self._end(key, f"its process cannot be started: {first_line(error)}; {self.advice}", progress)
            else:
                continue
            self.waiting.remove(key)
            if self.running:
                return  # look at those at work before the next one: a check may take seconds

    def _is_kept(self, recipe: Recipe) -> bool:
        """Whether the run of a recipe is finished already and will not be overwritten."""
        return _key(recipe) not in self.overwritten and RunFolder.of(recipe, self.runs).is_finished

    def _start(self, key: Key, folder: Path) -> None:
        cores = max(1, available_cores() // self.jobs)
        training = Training(
            self.recipes[key],
            self.runs,
            overwrite=key in self.overwritten,
            show_progress=False,
            trust_imports=self.trust_imports,
            keep_logits=key in self.keeping_logits,
        )
        with stops_deferred():  # so that no process is started and then forgotten
            self.running[key] = TrainingProcess(training, folder, limited_to(cores))

    def _fault_of_finished(self, recipe: Recipe) -> str | None:
        """Why a finished run cannot be kept for this recipe; None if it is kept."""
        folder = RunFolder.of(recipe, self.runs)
        try:
            check_recipe(folder, recipe)
            check_finished(folder, recipe, self.runs, self.trust_imports)
            folder.scores()
        except SelfKDError as error:
            return str(error)
        return None

    def _collect(self, progress: SeveralProgress) -> None:
        """Take note of the processes that have ended."""
        for key, process in list(self.running.items()):
            if process.has_ended:
                del self.running[key]
                process.close()
                self._end(key, process.error, progress)

    def _stop_in_time(self, progress: SeveralProgress) -> None:
        """Stop all processes, because the time is up."""
        stopped = list(self.running)
        self._stop()
        for key in stopped:
            process = self.running.pop(key)
            error = process.error
            self._end(key, None if error is None else f"{_TIME_IS_UP}: {error}", progress)
        for key in self.waiting:
            self._end(key, f"{_TIME_IS_UP}: it was not begun; {self.advice}", progress)

    def _end(self, key: Key, error: str | None, progress: SeveralProgress) -> None:
        self.errors[key] = error
        progress.end(key, error)

    def _stop(self) -> None:
        """Let all processes end in an orderly way."""
        stop_all(self.running.values())

    def _close(self) -> None:
        """End the processes that still run, after an error."""
        for process in self.running.values():
            process.close()


@contextmanager
def _each_message_once() -> Iterator[None]:
    """Drop the log's messages that came before in this block."""
    messages: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        before = len(messages)
        messages.add(record.getMessage())
        return len(messages) > before

    _log.addFilter(is_new)
    try:
        yield
    finally:
        _log.removeFilter(is_new)


def _key(recipe: Recipe) -> Key:
    return recipe.name, recipe.seed
