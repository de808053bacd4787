"""A process that trains one run, alone or with others, and ends with the process that started it.

The process runs the command `python -m selfkd.runs.training_command`. It does not import the main program of its
parent, so a script that trains needs no main guard, and a notebook can train, too.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from selfkd import errors, process_environment
from selfkd.atomic_files import written_whole
from selfkd.error_log import error_log
from selfkd.errors import RecipeError, SelfKDError
from selfkd.recipes.reader import resolve
from selfkd.recipes.recipe import Recipe
from selfkd.recipes.sections import TEACHER_PREFIX

__all__ = ["ErrorReport", "Training", "TrainingProcess", "check_importable", "stop_all"]

_MODULE = "selfkd.runs.training_command"
_RECIPE, _SETTINGS, _REPORT, _OUTPUT = "recipe.yaml", "settings.json", "error.json", "output.txt"
_MAIN = "__main__"
_LAST_BYTES = 2**14  # of the output, which an error without a report shows
_STOP_SECONDS = 30.0  # how long a stopped process may take to end
_END_SECONDS = 10.0  # how long a process may take to end after its standard input has ended


@dataclass(frozen=True)
class Training:
    """A recipe to train, and how. A folder can hold it, from which another process reads it.

    Args:
        recipe: what to train. Its custom parts are trusted, because they are imported in this process already.
        runs: the folder of all runs.
        overwrite, show_progress, trust_imports, keep_logits: as for `selfkd.runs.train.run`.
        log_level: least level of this library's messages that are shown; by default that of this process.
    """

    recipe: Recipe
    runs: Path
    overwrite: bool
    show_progress: bool
    trust_imports: bool
    keep_logits: bool = False
    log_level: int = field(default_factory=lambda: logging.getLogger("selfkd").getEffectiveLevel())

    def write(self, folder: Path) -> None:
        """Write it into a folder, as a recipe file and a file of settings."""
        settings = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "recipe"}
        (folder / _RECIPE).write_text(self.recipe.to_yaml(), encoding="utf-8")
        (folder / _SETTINGS).write_text(json.dumps({**settings, "runs": str(self.runs.absolute())}), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Training:
        """Read what `write` has written. The parts of the recipe are imported."""
        settings = json.loads((folder / _SETTINGS).read_text(encoding="utf-8"))
        recipe = resolve(str(folder / _RECIPE), trust_imports=True)
        return cls(**{**settings, "recipe": recipe, "runs": Path(settings["runs"])})


@dataclass(frozen=True)
class ErrorReport:
    """The error that ended a process.

    Args:
        kind: the name of the error's class.
        message: the error's message.
        exit_status: with which the process ends.
        traceback: the whole traceback of an error that is not a `SelfKDError`; otherwise empty.
        time: when it was made, in nanoseconds.
    """

    kind: str
    message: str
    exit_status: int
    traceback: str
    time: int

    @classmethod
    def of(cls, error: Exception) -> ErrorReport:
        """The report of an error that is being handled."""
        kind, now = type(error).__name__, time.time_ns()
        if isinstance(error, SelfKDError):
            return cls(kind, str(error), error.exit_status, "", now)
        message = "".join(traceback.format_exception_only(error)).strip()
        return cls(kind, message, 1, "".join(traceback.format_exception(error)), now)

    @property
    def is_foreign(self) -> bool:
        """Whether the error is not a `SelfKDError`."""
        return bool(self.traceback)

    @classmethod
    def read(cls, folder: Path) -> ErrorReport | None:
        """The report in the folder of a process; None if there is none."""
        try:
            return cls(**json.loads((folder / _REPORT).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None

    def write(self, folder: Path) -> None:
        """Write the report into the folder of the process."""
        with written_whole(folder / _REPORT) as partial:
            partial.write_text(json.dumps(asdict(self)), encoding="utf-8")

    def error(self, prefix: str = "") -> Exception:
        """The error, to be raised in this process. A foreign one is a `RuntimeError` with the traceback as its note.

        Args:
            prefix: the beginning of a foreign error's message.
        """
        if self.is_foreign:
            foreign = RuntimeError(f"{prefix}{self.message}")
            foreign.add_note(self.traceback)
            return foreign
        kind = getattr(errors, self.kind, SelfKDError)  # a custom part may raise its own kind
        error: SelfKDError = kind.__new__(kind, self.message)
        error.exit_status = self.exit_status
        return error


class TrainingProcess:
    """A process that trains, in the working folder. It starts at once.

    The process gets a pipe as its standard input and ends when the pipe is closed. The system closes the pipe when this
    process ends in any way, SIGKILL included.

    Args:
        training: what it trains.
        folder: gets the files that the two processes exchange. It is made.
        variables: environment variables that the process gets beside those of this one.
        standard_error: the descriptor of its standard error; None for a file in `folder`, and its standard output is
            dropped.
    Raises: OSError: if the system cannot start it.
    """

    def __init__(
        self, training: Training, folder: Path, variables: Mapping[str, str], standard_error: int | None = None
    ) -> None:
        folder.mkdir()
        training.write(folder)
        self._training, self._folder = training, folder
        with (folder / _OUTPUT).open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603  # no word of it comes from outside
                [sys.executable, "-m", _MODULE, str(folder)],
                env={**os.environ, **process_environment.variables(), **_import_variables(), **variables},
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL if standard_error is None else None,
                stderr=output if standard_error is None else standard_error,
            )

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended."""
        return self.status is not None

    @property
    def status(self) -> int | None:
        """The exit status of the ended process, or minus the number of the signal that killed it; None if it runs."""
        return self._process.poll()

    @property
    def report(self) -> ErrorReport | None:
        """The error that the process has reported; None if it has reported none."""
        return ErrorReport.read(self._folder)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Send a signal that lets the process end in an orderly way."""
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    def close(self, seconds: float = 0) -> None:
        """Wait for the end of the process, at most so many seconds; then end it at once."""
        assert self._process.stdin is not None
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        self._process.stdin.close()  # the process then ends those that it has started, and itself
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def error(self) -> str | None:
        """Why the ended process failed, in a line; None if it has succeeded."""
        status, report = self._process.returncode, self.report
        if status == 0:
            return None
        if report is not None and report.is_foreign:
            recipe = self._training.recipe
            details = error_log(report.error(), ["train", recipe.name, f"seed={recipe.seed}"])
            return f"unforeseen error, please report it: {_in_one_line(report.message)}; {details}"
        if report is not None:
            return _in_one_line(report.message)
        if status < 0:
            name = signal.Signals(-status).name
            return f"the process that trained it was killed ({name}); the same command continues"
        output = (self._folder / _OUTPUT).read_bytes()[-_LAST_BYTES:].decode(errors="replace")
        return f"the process that trained it ended with status {status} and no message: {_in_one_line(output)}"


def stop_all(processes: Collection[TrainingProcess], number: int = signal.SIGTERM) -> None:
    """Let processes end in an orderly way, and wait for them. Those that take too long are ended at once.

    Args:
        processes: all of them may have ended.
        number: the signal that they get.
    """
    for process in processes:
        process.stop(number)
    deadline = time.monotonic() + _STOP_SECONDS
    for process in processes:
        process.close(max(0.0, deadline - time.monotonic()))


def check_importable(recipe: Recipe) -> None:
    """Check that another process can import the custom parts of a recipe and of its teacher's recipe.

    Raises: RecipeError: if one of them is defined in the main program, such as a notebook.
    """
    of_teacher = {f"{TEACHER_PREFIX}{key}": value for key, value in recipe.of_teacher.items()}
    for section, name in {**recipe.parts, **of_teacher}.items():
        if name.partition(":")[0] == _MAIN:
            raise RecipeError(
                f"{section}={name} is defined in the main program, which the processes that train do not import; put "
                "it into a module of its own"
            )


def _import_variables() -> dict[str, str]:
    """Environment variables with which another Python looks for modules where this one does, in the same order.

    Without PYTHONSAFEPATH it would look in the working folder first, which may be a downloaded one.
    """
    return {"PYTHONPATH": os.pathsep.join(map(str, sys.path)), "PYTHONSAFEPATH": "1"}


def _in_one_line(text: str) -> str:
    return " ".join(text.split())
