"""Starts `selfkd` commands, each in a process of its own, without importing torch for each.

A server process imports the modules that commands need, and computes nothing. It has one thread, and forks one command
after the other. A command is a real process. It has its own process group, together with the workers that it starts.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, NoReturn

__all__ = ["Command", "CommandServer"]

_IMPORTS = (
    "selfkd.backbones.resnet_cifar",
    "selfkd.cli.command",
    "selfkd.data.sources.digits",
    "selfkd.data.sources.folder",
    "selfkd.methods.dtskd",
    "selfkd.methods.loth",
    "selfkd.methods.plain",
    "selfkd.methods.teskd",
    "selfkd.data.sources.parquet",
    "selfkd.reports.evaluation_report",
    "selfkd.reports.compare",
    "selfkd.runs.checkup",
    "selfkd.runs.train",
    "selfkd.runs.prediction",
    "selfkd.training.optimizers",
    "selfkd.training.schedules",
    "torch._inductor.cudagraph_trees",  # imported by every run's first step
)
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}
"""Keeps the server at one thread, because a fork copies only one. pyarrow, which scikit-learn imports, starts more."""
_LONGEST_SECONDS = 300  # for the server's imports, or the start of a command


class Command:
    """A started command.

    Args:
        server: the server that forked it and reports its end.
        pid: number of its process and of its process group.
        log: file that gets its output.
    """

    def __init__(self, server: CommandServer, pid: int, log: Path) -> None:
        self._server = server
        self.pid = pid
        self.log = log

    def ended(self, seconds: float) -> bool:
        """Wait for its end for at most `seconds`. Returns whether it has ended."""
        return self._server.has_answer(seconds)

    def wait(self, seconds: float = 600) -> int:
        """Wait for its end. Returns its exit status, or minus the number of the signal that killed it.

        Raises: TimeoutError: if it has not ended after `seconds`; it is killed.
        """
        if not self.ended(seconds):
            self.kill()
            raise TimeoutError(f"a command still ran after {seconds} s: {self.log.read_text()}")
        return int(self._server.answer())

    def kill(self) -> None:
        """Kill it and its workers with SIGKILL."""
        for kill in (os.killpg, os.kill):  # a command that has just begun has no group of its own yet
            with suppress(ProcessLookupError):
                kill(self.pid, signal.SIGKILL)


class CommandServer:
    """Starts the server and sends it commands, one at a time; a context manager.

    Args:
        prepare: called in the server's process before it begins, for example to set limits.
        variables: further variables of the server's environment.
    """

    def __init__(
        self, prepare: Callable[[], None] | None = None, variables: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        environment = {**os.environ, **_ENVIRONMENT, **variables}
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,  # a line that was read too early would be out of sight of `select`
            preexec_fn=prepare,
        )
        self.threads = int(self.answer())

    def __enter__(self) -> CommandServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(_LONGEST_SECONDS)
        finally:
            self._process.kill()
            self._process.stdout.close()

    def start(self, arguments: Sequence[str | Path], log: Path, folder: Path | None = None) -> Command:
        """Start a command.

        Args:
            arguments: the words behind `selfkd` on a command line.
            log: its output is appended to this file.
            folder: its working folder; by default the server's.
        """
        assert self._process.stdin is not None
        order = {"arguments": [*map(str, arguments)], "log": str(log), "folder": str(folder or ".")}
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        return Command(self, int(self.answer()), log)

    def has_answer(self, seconds: float) -> bool:
        """Whether the server writes a line within `seconds`."""
        return bool(select.select([self._process.stdout], [], [], max(seconds, 0))[0])

    def answer(self) -> str:
        """Wait for the server's next line.

        Raises:
            TimeoutError: if the server writes nothing for too long; it is killed.
            RuntimeError: if the server has ended.
        """
        assert self._process.stdout is not None
        if not self.has_answer(_LONGEST_SECONDS):
            self._process.kill()
            raise TimeoutError(f"the command server wrote nothing for {_LONGEST_SECONDS} s and was killed")
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the command server has ended; its output above says why")
        return line.decode()


def _serve() -> None:
    """Import, then fork a command for every line of standard input, one after the other."""
    for name in _IMPORTS:
        importlib.import_module(name)
    gc.freeze()  # a garbage collection in a command would copy every page of the imported modules
    print(len(list(Path("/proc/self/task").iterdir())), flush=True)
    while line := sys.stdin.readline():
        pid = os.fork()
        if pid == 0:
            _run(json.loads(line))
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    os._exit(0)  # a regular exit would tear down all imported modules, which takes as long as a short training


def _run(order: dict[str, Any]) -> NoReturn:
    """Run a command to its end, in the forked process."""
    from selfkd.cli import main

    os.setsid()
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for source, descriptor in ((os.open(os.devnull, os.O_RDONLY), 0), (log, 1), (log, 2)):
        os.dup2(source, descriptor)
    os.chdir(order["folder"])
    try:
        status = main(order["arguments"])
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    os._exit(status)  # as the server ends


if __name__ == "__main__":
    _serve()
