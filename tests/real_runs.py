"""Trainings in real processes: start them, watch them, wait for their end, and compare what they leave behind."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from selfkd.runs.run_folder import RunFolder
from selfkd.training.checkpoint_content import BEST_KEY, MEMORIES_KEY, read_checkpoint
from selfkd.training.checkpoint_files import newest_checkpoint
from selfkd.training.epoch_log import read_epoch_log

__all__ = ["children", "differences", "finish", "log_without_times", "outcome", "start", "trainers", "wait_for_epoch"]


def start(
    recipe: str | Path,
    runs: Path,
    *overrides: str,
    largest_file: int | None = None,
    launcher: Sequence[str] = (),
    group: bool = False,
    folder: Path | None = None,
) -> subprocess.Popen[str]:
    """Start `selfkd train`.

    Args:
        recipe: its name or file.
        runs: folder of the runs.
        overrides: of the recipe, `key=value`.
        largest_file: bytes of the largest file that the process may write; None for no limit.
        launcher: module that starts the command, with its arguments.
        group: whether the process gets a process group of its own.
        folder: the working folder.
    """
    command = [sys.executable, "-m", *launcher, "selfkd", "train", str(recipe), *overrides]

    def prepare() -> None:
        # A shell's background job, such as a CI run, hands an ignored SIGINT down.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    return subprocess.Popen(
        [*command, "--runs", str(runs), "--no-progress", "--json"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=prepare,
        start_new_session=group,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for a process; its exit status and standard error."""
    try:
        _, errors = process.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, errors


def wait_for_epoch(run: RunFolder, epoch: int, process: subprocess.Popen[str]) -> None:
    """Wait until a run has logged an epoch."""
    deadline = time.monotonic() + 120
    while not any(row["epoch"] >= epoch for row in read_epoch_log(run.metrics_file)):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def children(process: subprocess.Popen[str]) -> set[int]:
    """The child processes of a process (Linux)."""
    return {*map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())}


def trainers(process: subprocess.Popen[str]) -> list[int]:
    """The processes that a process has started to train, in the order in which they were started (Linux)."""
    found = []
    for child in sorted(children(process)):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            if b"selfkd.runs.training_command" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(child)
    return found


def log_without_times(run: RunFolder) -> list[dict[str, Any]]:
    """The rows of metrics.csv without the seconds, which differ from run to run."""
    rows = read_epoch_log(run.metrics_file)
    return [{key: value for key, value in row.items() if not key.startswith("seconds/")} for row in rows]


def outcome(run: RunFolder) -> dict[str, Any]:
    """All that two finished runs of one recipe must have in common, by name: files, bytes, numbers, tensors."""
    newest = newest_checkpoint(run.checkpoints)
    assert newest is not None
    checkpoint = read_checkpoint(newest)
    keys = ("epoch", "global_step", "state_dict", "optimizer_states", "lr_schedulers", BEST_KEY, MEMORIES_KEY)
    parts = {
        "files": sorted(str(file.relative_to(run.path)) for file in run.path.rglob("*") if file.is_file()),
        "metrics.csv": log_without_times(run),
        "scores.json": {key: value for key, value in run.scores().items() if key != "seconds"},
        "last checkpoint": {key: checkpoint[key] for key in keys},
    }
    return {"model.safetensors": run.network_file.read_bytes(), **dict(_flat(parts))}


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _flat(part, f"{name}/{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        yield f"{name}: length", len(value)
        for position, part in enumerate(value):
            yield from _flat(part, f"{name}/{position}")
    else:
        yield name, value


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Names of the values that differ, by a single bit too, or that only one side has."""
    names = [*one, *(name for name in other if name not in one)]
    return [name for name in names if name not in one or name not in other or not _same(one[name], other[name])]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        # As bytes, which tell 0 from -0, and in which a NaN equals itself.
        rows = [each.clone(memory_format=torch.contiguous_format).flatten() for each in (one, other)]
        alike = one.dtype == other.dtype and one.shape == other.shape
        return alike and torch.equal(*(row.view(torch.uint8) for row in rows))
    return type(one) is type(other) and bool(one == other)
