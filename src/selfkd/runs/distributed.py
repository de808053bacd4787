"""Train one run in several processes of this machine, which start, stop and end together.

torch.distributed.elastic is not used. It reports one failed process and hides the exit codes of the others, so a
process that the system killed looks like the processes that failed because of it.
"""

from __future__ import annotations

import codecs
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO

from selfkd.errors import ProcessLostError
from selfkd.runs.training_process import Training, TrainingProcess, check_importable, stop_all
from selfkd.signals import StopSignal, stopping_on_signals, stops_deferred
from selfkd.training.processes import launch_variables

__all__ = ["train_in_processes"]

_PAUSE_SECONDS = 0.05
_COLLECT_SECONDS = 0.5
_STANDARD_ERROR = 2
_CHUNK_BYTES = 2**16
_LAST_OUTPUT_SECONDS = 1.0  # a killed process may leave others that keep its standard error open


def train_in_processes(training: Training, count: int) -> None:
    """Train in new processes on this machine and wait for all. If one fails, all end.

    Their log and the progress bar of the first appear on `sys.stderr`.

    Args:
        training: what to train.
        count: number of processes.
    Raises:
        SelfKDError: the first that a process raised, with its message and exit status.
        RecipeError: if a custom part of the recipe is defined in the main program.
        RunInterruptedError: if a signal stops this process or one of them.
        ProcessLostError: if one is killed.
        RuntimeError: if a process raises another error; its note is the traceback.
        OSError: if the system cannot start the processes.
    """
    check_importable(training.recipe)
    processes: list[TrainingProcess] = []
    stopped: StopSignal | None = None
    with stopping_on_signals(), ExitStack() as closing:
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="selfkd-")))
        standard_error = closing.enter_context(_standard_error())
        closing.callback(stop_all, processes)
        try:
            with stops_deferred():  # so that no process is started and then forgotten
                for rank, variables in enumerate(launch_variables(count)):
                    processes.append(TrainingProcess(training, folder / str(rank), variables, standard_error))
            _wait_for_first_failure(processes)
        except StopSignal as stop:
            stopped = stop
        statuses = [process.status or 0 for process in processes]
        with stops_deferred():
            stop_all(processes, signal.SIGTERM if stopped is None else stopped.number)
        error = _error(processes, statuses, stopped)
    if error is not None:
        raise error


def _wait_for_first_failure(processes: Sequence[TrainingProcess]) -> None:
    """Wait until one process fails or all have succeeded."""
    while not all(process.has_ended for process in processes):
        if any(process.status for process in processes):
            # This failure may be a consequence of a killed process, so give that one time to show.
            time.sleep(_COLLECT_SECONDS)
            return
        time.sleep(_PAUSE_SECONDS)


def _error(
    processes: Sequence[TrainingProcess], statuses: Sequence[int], stopped: StopSignal | None
) -> BaseException | None:
    """The error of processes that have ended; None if all have succeeded.

    Args:
        processes: by rank.
        statuses: their exit statuses before all were stopped; 0 for those that still ran.
        stopped: the signal that stopped all; None if there was none.
    """
    if not any(process.status for process in processes):
        return stopped
    killed = next((rank for rank, status in enumerate(statuses) if status < 0), None)
    if killed is not None and statuses[killed] == -signal.SIGKILL:
        return _lost(killed, statuses)  # the errors of the others are consequences
    reports = {rank: report for rank, process in enumerate(processes) if (report := process.report) is not None}
    if reports:
        rank = min(reports, key=lambda rank: reports[rank].time)
        # A foreign error, such as that of a lost connection, may be a consequence of a stop or of a killed process.
        if not (reports[rank].is_foreign and (stopped is not None or killed is not None)):
            return reports[rank].error(f"process {rank} of {len(processes)} failed: ")
    if stopped is not None:
        return stopped
    failed = next(rank for rank, status in enumerate(statuses) if status)
    return _lost(failed if killed is None else killed, statuses)


def _lost(rank: int, statuses: Sequence[int]) -> ProcessLostError:
    status = statuses[rank]
    how = signal.Signals(-status).name if status < 0 else f"status {status}"
    return ProcessLostError(
        f"process {rank} (counted from 0) of {len(statuses)} was lost ({how}); "
        "the same command continues from the last checkpoint"
    )


@contextmanager
def _standard_error() -> Iterator[int]:
    """A descriptor for the standard error of other processes. What they write there appears on `sys.stderr`.

    This is the descriptor of `sys.stderr` if that is the standard error of this process, so that a terminal stays a
    terminal. Otherwise, as in a notebook or under pytest, it is a pipe, and a thread copies from it.
    """
    stream = sys.stderr
    if stream is None or _descriptor(stream) == _STANDARD_ERROR:
        yield _STANDARD_ERROR
        return
    reading, writing = os.pipe()
    copying = threading.Thread(target=_copy, args=(reading, stream), daemon=True)
    copying.start()
    try:
        yield writing
    finally:
        os.close(writing)
        copying.join(_LAST_OUTPUT_SECONDS)


def _descriptor(stream: TextIO) -> int | None:
    """The descriptor of a stream; None if it has none, as that of a notebook or a string."""
    try:
        return stream.fileno()
    except (AttributeError, OSError, ValueError):
        return None


def _copy(reading: int, stream: TextIO) -> None:
    """Copy from a pipe to a stream until the pipe ends, also if the stream is closed before."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        while chunk := pipe.read(_CHUNK_BYTES):
            with suppress(OSError, ValueError):
                stream.write(decoder.decode(chunk))
                stream.flush()
