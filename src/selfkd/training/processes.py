"""The processes of a run: who started them, how they start on this machine, and how they end together.

torch.distributed.elastic's `start_processes` is not used. It reports one failed process and hides the exit codes of the
others, so a process that the system killed looks like the processes that failed because of it.
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
from selfkd.atomic_files import written_whole
from selfkd.cores import available_cores
from selfkd.errors import OptionError, ProcessLostError, SelfKDError, UserError
from selfkd.process_group import is_distributed, process_rank
from selfkd.signals import StopSignal, leave, stopping_on_signals, stops_deferred
from selfkd.terminal import configure_logging, safe_output
from selfkd.training.options import TrainerOptions

__all__ = ["World", "is_main_process", "launcher_name", "start"]

# torchrun sets these variables for its processes, and `start` does so, too.
_LAUNCH_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

_GRACE_SECONDS = 15.0  # torch waits this long before SIGTERM, and again before SIGKILL
_COLLECT_SECONDS = 0.5


@dataclass(frozen=True)
class World:
    """All processes of a run.

    Args:
        devices: number of processes on each machine.
        num_nodes: number of machines.
        environment: tells a process its rank and the address of the main process.
        launched: whether torchrun, srun or `start` has started this process.
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
        """The processes that torchrun, srun or `start` has started; otherwise those that the options ask for.

        Raises: OptionError: if the two disagree, or the options ask for several machines and nothing has started them.
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
    """Whether this is the process that writes and reports."""
    if is_distributed():
        return process_rank() == 0
    launched = _launcher()
    return launched is None or launched[1].global_rank() == 0


def launcher_name() -> str | None:
    """Which launcher has started this process with others: "torchrun" or "srun"; None if no one has."""
    launched = _launcher()
    return None if launched is None else launched[0]


def start(work: Callable[..., None], processes: int, *arguments: Any) -> None:
    """Run `work(*arguments)` in several processes on this machine and wait for all. If one fails, all end.

    Args:
        work: a function of a module; it runs in fresh interpreters.
        processes: number of processes.
        arguments: the arguments of `work`; each process gets a pickled copy.
    Raises:
        SelfKDError: the first that a process raised, with its message and exit status.
        RunInterruptedError: if a signal stops this process or one of them.
        ProcessLostError: if one is killed.
        RuntimeError: if a process raises another error; its cause holds the traceback.
    """
    with tempfile.TemporaryDirectory() as reports, stopping_on_signals():
        settings = {
            "WORLD_SIZE": str(processes),
            "LOCAL_WORLD_SIZE": str(processes),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(_free_port()),
            "PYTHONSAFEPATH": "1",  # or they would search the working folder for modules before they get our path
            # More threads than cores are very slow, so the processes divide the cores.
            "OMP_NUM_THREADS": os.environ["OMP_NUM_THREADS"]
            if process_environment.says_threads("OMP_NUM_THREADS")
            else str(max(1, available_cores() // processes)),
            **process_environment.variables(),
        }
        level = logging.getLogger("selfkd").getEffectiveLevel()
        given = (settings, reports, level, work, arguments)
        context: ProcessContext | None = None
        stopped = killed = None
        try:
            # Libraries read their variables when they are imported, so these come first. A signal waits until all
            # processes are started.
            with _environment(settings), stops_deferred():
                context = start_processes(_run_process, given, processes, join=False, start_method="spawn")  # type: ignore[no-untyped-call]
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
                _end_all(context, stopped is not None)
        except (ProcessExitedException, ProcessRaisedException) as error:
            failure = _failure(error, killed, processes)
            if killed is not None and killed[1] == signal.SIGKILL:
                raise failure from error  # the errors of the others are consequences
            raise _first_reported_error(Path(reports)) or stopped or failure from error
        if stopped is not None:
            raise stopped


def _wait_for_first_failure(context: ProcessContext) -> tuple[int, int] | None:
    """Wait until one process fails or all have succeeded. Returns rank and signal of a killed process, or None."""
    running = dict(enumerate(context.processes))
    while running:
        connection.wait([process.sentinel for process in running.values()])
        ended = [rank for rank, process in running.items() if not process.is_alive()]
        if any(running[rank].exitcode for rank in ended):
            # This failure may be a consequence of a killed process, so give that one time to show.
            time.sleep(_COLLECT_SECONDS)
            codes = [process.exitcode or 0 for process in context.processes]
            return next(((rank, -code) for rank, code in enumerate(codes) if code < 0), None)
        for rank in ended:
            del running[rank]
    return None


def _end_all(context: ProcessContext, stopped: bool) -> None:
    """Wait for all processes. If one has failed, the others get SIGTERM, and SIGKILL some time later.

    Args:
        context: the processes.
        stopped: whether all have received a stop signal; then those that do not end in time are killed.

    Raises: ProcessExitedException, ProcessRaisedException: if one failed.
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
    """The launcher's name, its environment, and the number of processes that it started on this machine.

    Returns: None if no launcher started this process.
    Raises: UserError: if Lightning does not support the way in which srun was started.
    """
    if all(name in os.environ for name in _LAUNCH_VARIABLES):
        return "torchrun", TorchElasticEnvironment(), int(os.environ["LOCAL_WORLD_SIZE"])
    # A batch script has no step of its own, so a process that it starts without srun is alone.
    if "SLURM_STEP_ID" in os.environ and SLURMEnvironment.detect() and int(os.environ["SLURM_NTASKS"]) > 1:
        tasks, nodes = int(os.environ["SLURM_NTASKS"]), int(os.environ.get("SLURM_NNODES", 1))
        try:
            # Lightning's requeueing would save and restore in the middle of an epoch.
            return "srun", SLURMEnvironment(auto_requeue=False), tasks // nodes
        except RuntimeError as error:
            raise UserError(str(error)) from error
    return None


def _run_process(
    rank: int,
    settings: Mapping[str, str],
    reports: str,
    level: int,
    work: Callable[..., None],
    arguments: tuple[Any, ...],
) -> None:
    """Run `work` in a started process, and report its error."""
    os.environ.update({**settings, "RANK": str(rank), "LOCAL_RANK": str(rank)})
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    try:
        with safe_output(), stopping_on_signals():
            configure_logging(level if rank == 0 else logging.ERROR)
            work(*arguments)
    except SelfKDError as error:
        report = {"class": type(error).__name__, "message": str(error), "exit_status": error.exit_status}
        with written_whole(Path(reports) / f"{rank}.json") as partial:
            partial.write_text(json.dumps(report), encoding="utf-8")
        leave(error.exit_status)
    except KeyboardInterrupt as error:
        leave(128 + getattr(error, "number", signal.SIGINT))


def _stop_with_parent() -> None:
    """Stop this process when its parent has died. torch sends SIGINT for that, but background jobs ignore SIGINT."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _first_reported_error(reports: Path) -> SelfKDError | None:
    first = min(reports.glob("*.json"), key=lambda file: file.stat().st_mtime_ns, default=None)
    if first is None:
        return None
    report = json.loads(first.read_text(encoding="utf-8"))
    kind = getattr(errors, report["class"], SelfKDError)
    error: SelfKDError = kind.__new__(kind, report["message"])
    error.exit_status = report["exit_status"]
    return error


def _failure(
    error: ProcessExitedException | ProcessRaisedException, killed: tuple[int, int] | None, processes: int
) -> Exception:
    """The error for a process that was killed or failed."""
    if killed is not None:
        rank, how = killed[0], signal.Signals(killed[1]).name
    elif isinstance(error, ProcessRaisedException):
        said = str(error).strip().rpartition("\n")[2]  # the last line of its traceback; the cause keeps the rest
        return RuntimeError(f"process {error.error_index} of {processes} failed: {said}")
    else:
        rank, how = error.error_index, f"status {error.exit_code}"
    return ProcessLostError(
        f"process {rank} (counted from 0) of {processes} was lost ({how}); "
        "the same command continues from the last checkpoint"
    )


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables in this block."""
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
