"""A process that trains one run, and ends with the process that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from selfkd.catalogue import is_own
from selfkd.cores import limited_to
from selfkd.recipes.recipe import Recipe
from selfkd.recipes.sections import CHOSEN, TEACHER_PREFIX

__all__ = ["TrainingProcess"]

_MESSAGE = "selfkd: "  # begins the command's last message
_LOOKED_AT = 2**14  # bytes of the output in which it is looked for
_END_SECONDS = 10.0


class TrainingProcess:
    """`selfkd train` of a resolved recipe, in the working folder. It starts at once.

    The process gets a pipe as its standard input and ends when the pipe is closed. The system closes the pipe when this
    process ends in any way, SIGKILL included.

    Args:
        recipe: what to train. Its custom parts are trusted, because they are imported in this process already.
        runs: the folder of all runs.
        files: an existing path without an ending. The recipe and the output of the process get files there.
        cores: how many cores the process may use.
        trust_imports: as for `selfkd.runs.train.run`.
        overwrite: as for `selfkd.runs.train.run`.
        keep_logits: as for `selfkd.runs.train.run`.
    Raises: OSError: if the system cannot start it.
    """

    def __init__(
        self,
        recipe: Recipe,
        runs: Path,
        files: Path,
        cores: int,
        trust_imports: bool,
        overwrite: bool,
        keep_logits: bool,
    ) -> None:
        self._output = files.with_suffix(".txt")
        recipe_file = files.with_suffix(".yaml")
        recipe_file.write_text(recipe.to_yaml(), encoding="utf-8")
        flags = {"--trust-imports": trust_imports, "--overwrite": overwrite, "--keep-logits": keep_logits}
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603  # no word of it comes from outside
                [
                    *(sys.executable, "-m", "selfkd", "train", str(recipe_file), *_trusted(recipe)),
                    *(f"--runs={runs.absolute()}", "--no-progress", "--json", "--end-with-input"),
                    *(flag for flag, is_given in flags.items() if is_given),
                ],
                # Otherwise Python would look for selfkd in the working folder first, which may be a downloaded one.
                env={**os.environ, **limited_to(cores), "PYTHONSAFEPATH": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=output,
            )

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    def stop(self) -> None:
        """Let the process end in an orderly way, as after Ctrl-C."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

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
        """Why the ended process failed: its last message; None if it has succeeded."""
        status = self._process.returncode
        if status == 0:
            return None
        if status < 0:
            name = signal.Signals(-status).name
            return f"the process that trained it was killed ({name}); the same command continues"
        output = self._output.read_bytes()[-_LOOKED_AT:].decode(errors="replace")
        _, found, message = f"\n{output}".rpartition(f"\n{_MESSAGE}")
        if found:
            return " ".join(message.split())
        return f"the process that trained it ended with status {status} and no message: {' '.join(output.split())}"


def _trusted(recipe: Recipe) -> list[str]:
    """Overrides that change nothing, but let the recipe's file name the custom parts that it has."""
    return [
        f"{key}={name}"
        for key, name in recipe.flat().items()
        if key.removeprefix(TEACHER_PREFIX) in CHOSEN and isinstance(name, str) and is_own(name)
    ]
