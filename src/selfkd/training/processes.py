"""The processes of a run: who started them, how they start on this machine, and how they end together.

torch.distributed.elastic's `start_processes` is not used. It reports one failed process and keeps the exit codes of the
others to itself, so a process that the system killed cannot be told from those that fail because it is gone.
"""

from __future__ import annotations

import json
import logging
import math
import multiprocessing
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any

from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch.multiprocessing.spawn import ProcessContext, ProcessExitedException, ProcessRaisedException, start_processes

from selfkd import errors, process_environment
from selfkd.cores import available_cores
from selfkd.errors import OptionError, ProcessLostError, SelfKDError, UserError
from selfkd.process_group import is_distributed, process_rank
from selfkd.terminal import configure_logging, safe_output
from selfkd.training.options import TrainerOptions
from selfkd.training.signals import StopSignal, leave, stopping_on_signals, stops_deferred

__all__ = ["World", "is_main_process", "start"]

# The variables that torchrun sets, and so do we for the processes that we start.
_TOLD = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

_GRACE_SECONDS = 15.0  # torch waits so long twice: before it sends SIGTERM, and before SIGKILL
_SETTLING_SECONDS = 0.5
_OURS = "selfkd"


@dataclass(frozen=True)
class World:
    """All processes of a run.

    Args:
        devices: processes on each machine.
        num_nodes: machines.
        environment: how a process learns its place among them.
        launched: whether torchrun, srun or `start` has started this process as one of them.
    """

    devices: int
    num_nodes: int
    environment: ClusterEnvironment
    launched: bool

    @property
    def size(self) -> int:
        """Number of processes."""
        return self.devices * self.num_nodes

    @classmethod
    def of(cls, options: TrainerOptions) -> World:
        """What the options ask for, or what torchrun or srun has started.

        Raises: OptionError: if the two disagree, or several machines are asked for and nobody has started them.
        """
        launched = _launcher()
        if launched is not None:
            name, environment, devices = launched
            nodes = environment.world_size() // devices
            for option, asked, started, unit in (
                ("devices", options.devices, devices, "processes on each machine"),
                ("num_nodes", options.num_nodes, nodes, "machines"),
            ):
                if asked not in (1, started):
                    reason = f"{name} uses {started} {unit}; leave trainer.{option} out, or set it to {started}"
                    raise OptionError(f"trainer.{option}", asked, reason=reason)
            return cls(devices, nodes, environment, launched=True)
        if options.num_nodes > 1:
            reason = "torchrun or srun must start the processes on every machine (docs/many-processes.md)"
            raise OptionError("trainer.num_nodes", options.num_nodes, reason=reason)
        return cls(options.devices, 1, LightningEnvironment(), launched=False)


def is_main_process() -> bool:
    """Whether this process is the one that writes and reports."""
    if is_distributed():
        return process_rank() == 0
    launched = _launcher()
    return launched is None or launched[1].global_rank() == 0


def start(work: Callable[..., None], processes: int, *arguments: Any) -> None:
    """Run `work(*arguments)` in several processes on this machine and wait for all; if one ends early, all end.

    Args:
        work: a function of a module, which runs in a fresh interpreter.
        processes: how many.
        arguments: pickled to each process.
    Raises:
        SelfKDError: the first that a process raised, with its message and exit status.
        RunInterruptedError: if this process or one of them is told to stop.
        ProcessLostError: if one is killed.
        RuntimeError: of an error that is none of ours, from one that holds its traceback.
    """
    with tempfile.TemporaryDirectory() as reports, stopping_on_signals():
        settings = {
            "WORLD_SIZE": str(processes),
            "LOCAL_WORLD_SIZE": str(processes),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(_free_port()),
            "PYTHONSAFEPATH": "1",  # else they would look for modules in the working folder before they are told where
            # Threads of several processes on the same cores hinder each other severely.
            "OMP_NUM_THREADS": os.environ["OMP_NUM_THREADS"]
            if process_environment.says_threads("OMP_NUM_THREADS")
            else str(max(1, available_cores() // processes)),
            **process_environment.variables(),
        }
        level = logging.getLogger(_OURS).getEffectiveLevel()
        told = (settings, reports, level, work, arguments)
        context: ProcessContext | None = None
        stopped = killed = None
        try:
            # What a library reads when it is imported must be there before; and a stop finds all of them or none.
            with _environment(settings), stops_deferred():
                context = start_processes(_begin, told, processes, join=False, start_method="spawn")  # type: ignore[no-untyped-call]
            killed = _wait_for_first_failure(context)
        except StopSignal as stop:
            if context is None:
                raise
            stopped = stop
            for process in context.processes:
                with suppress(ProcessLookupError):
                    os.kill(int(process.pid), stop.number)
        try:
            with stops_deferred():
                _end(context, stopped is not None)
        except (ProcessExitedException, ProcessRaisedException) as error:
            lost = _lost(error, killed, processes)
            if killed is not None and killed[1] == signal.SIGKILL:
                raise lost from error  # whatever others report failed for want of it
            raise _reported(Path(reports)) or stopped or lost from error
        if stopped is not None:
            raise stopped


def _wait_for_first_failure(context: ProcessContext) -> tuple[int, int] | None:
    """Wait until all have ended well or one has not. Returns number and signal of one that was killed, or None."""
    running = dict(enumerate(context.processes))
    while running:
        connection.wait([process.sentinel for process in running.values()])
        ended = [number for number, process in running.items() if not process.is_alive()]
        if any(running[number].exitcode for number in ended):
            # Others fail for want of it, perhaps before this one is seen to have ended.
            time.sleep(_SETTLING_SECONDS)
            codes = {number: process.exitcode or 0 for number, process in enumerate(context.processes)}
            return next(((number, -code) for number, code in codes.items() if code < 0), None)
        for number in ended:
            del running[number]
    return None


def _end(context: ProcessContext, stopped: bool) -> None:
    """Wait for all; once one has failed the others are told to stop, and after a while killed.

    Args:
        context: the processes.
        stopped: whether all were told to stop, and are to be killed if they have not after a while.

    Raises: ProcessExitedException, ProcessRaisedException: of one that failed.
    """
    if any(process.exitcode for process in context.processes):
        for process in context.processes:
            if process.is_alive():
                process.terminate()
    deadline = time.monotonic() + 2 * _GRACE_SECONDS if stopped else math.inf
    while not context.join(max(0.1, deadline - time.monotonic()) if stopped else None, _GRACE_SECONDS):
        if time.monotonic() > deadline:
            for process in context.processes:
                process.kill()


def _launcher() -> tuple[str, ClusterEnvironment, int] | None:
    """Who started this process as one of several, what it told it, and how many it started on this machine.

    Raises: UserError: if srun was started in a way that Lightning cannot follow.
    """
    if all(name in os.environ for name in _TOLD):
        return "torchrun", TorchElasticEnvironment(), int(os.environ["LOCAL_WORLD_SIZE"])
    # A batch script itself has no step; what it starts without srun stands alone.
    if "SLURM_STEP_ID" in os.environ and SLURMEnvironment.detect() and int(os.environ["SLURM_NTASKS"]) > 1:
        tasks, nodes = int(os.environ["SLURM_NTASKS"]), int(os.environ.get("SLURM_NNODES", 1))
        try:
            # Lightning's own requeueing would save and restore in the middle of an epoch.
            return "srun", SLURMEnvironment(auto_requeue=False), tasks // nodes
        except RuntimeError as error:
            raise UserError(str(error)) from error
    return None


def _begin(
    rank: int,
    settings: Mapping[str, str],
    reports: str,
    level: int,
    work: Callable[..., None],
    arguments: tuple[Any, ...],
) -> None:
    """The beginning of a process."""
    os.environ.update({**settings, "RANK": str(rank), "LOCAL_RANK": str(rank)})
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    try:
        with safe_output(), stopping_on_signals():
            configure_logging(level if rank == 0 else logging.ERROR)
            work(*arguments)
    except SelfKDError as error:
        report = {"class": type(error).__name__, "message": str(error), "exit_status": error.exit_status}
        partial = Path(reports) / f"{rank}.partial"
        partial.write_text(json.dumps(report), encoding="utf-8")
        partial.rename(partial.with_suffix(".json"))
        leave(error.exit_status)
    except KeyboardInterrupt as error:
        leave(128 + getattr(error, "number", signal.SIGINT))


def _stop_with_parent() -> None:
    """Stop this process when its parent has died. torch sends SIGINT then, which a job in the background ignores."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _reported(reports: Path) -> SelfKDError | None:
    """The error of ours that came first, or None."""
    found = sorted(reports.glob("*.json"), key=lambda file: file.stat().st_mtime_ns)
    if not found:
        return None
    report = json.loads(found[0].read_text(encoding="utf-8"))
    kind = getattr(errors, report["class"], SelfKDError)
    error: SelfKDError = kind.__new__(kind, report["message"])
    error.exit_status = report["exit_status"]
    return error


def _lost(
    error: ProcessExitedException | ProcessRaisedException, killed: tuple[int, int] | None, processes: int
) -> Exception:
    if killed is not None:
        number, how = killed[0], signal.Signals(killed[1]).name
    elif isinstance(error, ProcessRaisedException):
        said = str(error).strip().rpartition("\n")[2]  # its traceback, which the error raised from this one keeps
        return RuntimeError(f"process {error.error_index} of {processes} failed: {said}")
    else:
        number, how = error.error_index, f"status {error.exit_code}"
    return ProcessLostError(
        f"process {number} (counted from 0) of {processes} was lost ({how}); "
        "the same command continues from the last checkpoint"
    )


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for a while."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
