"""Starts `selfkd` commands, each as a process of its own, without paying the imports of torch for each.

A server process imports what commands need and nothing more: it has one thread, has computed nothing, and forks one
command after the other. A command is a real process, in a process group of its own with the workers it starts.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import time
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
    "selfkd.reports.score_table",
    "selfkd.reports.seed_table",
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
"""What keeps the server at one thread; a fork copies no other. pyarrow, which scikit-learn imports, would have one."""
_LONGEST_SECONDS = 300  # that the server takes to import, or a command to be started
_STACK_SIGNAL = signal.SIGRTMIN + 3  # makes a command write down where it is; nothing else uses it
_STACK_SECONDS = 0.5  # within which it has done so, on a busy machine too


class Command:
    """A started command.

    Args:
        server: that forked it, and says when it has ended.
        pid: of the process, and of its group.
        log: file that gets what it prints.
        stack: file that gets where it was when it was killed.
    """

    def __init__(self, server: CommandServer, pid: int, log: Path, stack: Path) -> None:
        self._server = server
        self.pid = pid
        self.log = log
        self._stack = stack

    def ended(self, seconds: float) -> bool:
        """Whether it has ended by so many seconds from now, at most."""
        return self._server.has_answer(seconds)

    def wait(self, seconds: float = 600) -> int:
        """Its exit status, minus the signal that killed it.

        Raises: TimeoutError: if it still runs after so many seconds.
        """
        if not self.ended(seconds):
            self.kill()
            raise TimeoutError(f"a command still ran after {seconds} s: {self.log.read_text()}")
        return int(self._server.answer())

    def kill(self) -> str:
        """Kill it and its workers with SIGKILL; where it was, as a stack of all threads, empty if it had just begun."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, _STACK_SIGNAL)
            latest = time.perf_counter() + _STACK_SECONDS
            while self._stack.exists() and not self._stack_is_written() and time.perf_counter() < latest:
                time.sleep(0.0001)
        for kill in (os.killpg, os.kill):  # one that has just begun is in no group of its own yet
            with suppress(ProcessLookupError):
                kill(self.pid, signal.SIGKILL)
        return self._stack.read_text() if self._stack.exists() else ""

    def _stack_is_written(self) -> bool:
        # The server's own frames are the outermost of the thread that is written last.
        return self._stack.read_text().rstrip().endswith("in <module>")


class CommandServer:
    """The server, seen from the process that uses it; a context manager. It runs one command at a time.

    Args:
        prepare: is called in the server's process before it begins, to set its limits for example.
        variables: of the environment, beside this process's.
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
            arguments: what follows `selfkd` on a command line.
            log: file that what it prints is added to.
            folder: in which it runs; by default the server's.
        """
        stack = log.with_name(log.name + ".stack")
        stack.unlink(missing_ok=True)
        assert self._process.stdin is not None
        order = {
            "arguments": [*map(str, arguments)],
            "log": str(log),
            "stack": str(stack),
            "folder": str(folder or "."),
        }
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        return Command(self, int(self.answer()), log, stack)

    def has_answer(self, seconds: float) -> bool:
        """Whether the server says something within so many seconds."""
        return bool(select.select([self._process.stdout], [], [], max(seconds, 0))[0])

    def answer(self) -> str:
        """The server's next line; it is waited for.

        Raises:
            TimeoutError: if it says nothing for too long; it is killed.
            RuntimeError: if it has ended.
        """
        assert self._process.stdout is not None
        if not self.has_answer(_LONGEST_SECONDS):
            self._process.kill()
            raise TimeoutError(f"the server of commands said nothing for {_LONGEST_SECONDS} s")
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the server of commands has ended; what it printed stands above")
        return line.decode()


def _serve() -> None:
    """Import, then fork a command for every line of standard input, one after the other."""
    for name in _IMPORTS:
        importlib.import_module(name)
    signal.signal(_STACK_SIGNAL, signal.SIG_IGN)  # until a command listens to it; it must die of SIGKILL alone
    gc.freeze()  # a collection in a command would touch, and so copy, every page of what was imported
    print(len(list(Path("/proc/self/task").iterdir())), flush=True)
    while line := sys.stdin.readline():
        pid = os.fork()
        if pid == 0:
            _become(json.loads(line))
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    os._exit(0)  # without tearing down what was imported, which takes as long as a short training


def _become(order: dict[str, Any]) -> NoReturn:
    """Run the command to its end, in the process just forked."""
    from selfkd.cli import main

    os.setsid()
    stack = Path(order["stack"]).open("w")  # noqa: SIM115  # open as long as the process lives
    faulthandler.register(_STACK_SIGNAL, file=stack, all_threads=True)
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
    os._exit(status)  # as the server does


if __name__ == "__main__":
    _serve()
