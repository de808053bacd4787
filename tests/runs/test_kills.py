"""Real trainings, killed with SIGKILL again and again, against the same trainings never killed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from benchmark_files import load_benchmark
from image_sets import write_folder
from real_runs import differences, finish, outcome, start, trainers, wait_for_epoch
from selfkd.methods import METHODS
from selfkd.runs.run_folder import RunFolder
from selfkd.training.checkpoint_files import epochs_done
from selfkd.training.epoch_log import read_epoch_log

RECIPE = "demo/digits/resnet18/plain"
IN_MEMORY = {"data.classes": "[0,1,2,3,4]", "data.train_per_class": 40}
FROM_FILES = {"data": "folder", "data.image_size": 16, "data.memory_gb": 0}
TEACHER = {"teacher": "recipe", "teacher.recipe": RECIPE, "teacher.name": "teacher"}
LONGEST_DELAY = 0.012
"""Seconds from the first change in the folder of checkpoints to an aimed kill, at most."""


@dataclass(frozen=True)
class Case:
    """A training.

    Args:
        method: its name. A kill of a method with a teacher may come while the teacher, a run of its own, is trained.
        workers: processes that read the images from files; 0 for images in memory.
        epochs: length of the training.
    """

    method: str
    workers: int = 0
    epochs: int = 5

    def __str__(self) -> str:
        return f"{self.method}{f'-{self.workers}-workers' if self.workers else ''}"

    def command(self, runs: Path, images: Path) -> list[str]:
        """The words behind `selfkd`."""
        data = {**FROM_FILES, "data.root": images, "loader.workers": self.workers} if self.workers else IN_MEMORY
        teacher = TEACHER if METHODS.load(self.method).needs.teacher else {}
        options = {"method": self.method, "name": "killed", **data, **teacher, "trainer.epochs": self.epochs}
        options |= {"backbone.width": 4, "trainer.evaluate_every": 2, "trainer.checkpoint_every": 1}
        overrides = [f"{key}={value}" for key, value in options.items()]
        return ["train", RECIPE, *overrides, "--runs", str(runs), "--no-progress"]


# Of each kill, whether it is aimed at a checkpoint being written; the others may come at any time.
# Images that a worker reads, a history, a teacher, a peer. The slow test kills the other methods, too.
FEW_KILLS = {
    Case("plain", workers=1): (False, True),
    Case("dtskd"): (False, True),
    Case("kd"): (False, False, True),
    Case("dml"): (False, True),
}
MANY_KILLS = (False, False, True, False)
ALL_CASES = [Case(method, workers, epochs=10) for method in METHODS for workers in (0, 2)]


@pytest.fixture(scope="module")
def server():
    with load_benchmark("command_server").CommandServer() as server:
        assert server.threads == 1, "a fork copies one thread; a lock that another one holds would stay locked"
        yield server


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    write_folder(folder / "train", 40, range(5))
    write_folder(folder / "test", 20, range(5), start=40)
    return folder


class Training:
    """A training that is run once without a kill, and then again with kills.

    Args:
        server: starts the commands.
        case: the training.
        folder: gets its runs.
        images: folder of the image files.
    """

    def __init__(self, server, case, folder, images):
        self.server, self.case, self.folder, self.images = server, case, folder, images
        started = time.perf_counter()
        self.finish("unbroken")
        self.seconds = time.perf_counter() - started
        self.expected = outcome(self.run("unbroken"))

    def run(self, runs: str) -> RunFolder:
        return RunFolder(self.folder / runs / "killed" / "seed-0")

    def start(self, runs: str):
        return self.server.start(self.case.command(self.folder / runs, self.images), self.folder / "log.txt")

    def finish(self, runs: str) -> None:
        """Train to the end, or continue."""
        command = self.start(runs)
        assert command.wait() == 0, command.log.read_text()

    def kill(self, aimed: Sequence[bool], draws: random.Random) -> int:
        """Kill a new run again and again, and then let it end.

        Args:
            aimed: of each kill, whether it follows a change in the folder of checkpoints.
            draws: of the times of the kills, which are uniform over the duration of the run.
        Returns: the number of kills; fewer than asked for if the run ended before.
        """
        shutil.rmtree(self.folder / "broken", ignore_errors=True)
        before, times = 0.0, sorted(draws.uniform(0, self.seconds) for _ in aimed)
        for done, (at, is_aimed) in enumerate(zip(times, aimed, strict=True)):
            started = time.perf_counter()
            if not self._kill_once(at - before, is_aimed, draws.uniform(0, LONGEST_DELAY)):
                self.seconds = time.perf_counter() - started if done == 0 else self.seconds  # a faster machine now
                return done
            before = at
        self.finish("broken")
        return len(aimed)

    def _kill_once(self, seconds: float, aimed: bool, delay: float) -> bool:
        """Start, wait and kill; False if the run ended before."""
        command = self.start("broken")
        ended = command.ended(seconds)
        if aimed and not ended:
            ended = not _wait_for_change(self.run("broken").checkpoints, command) or command.ended(delay)
        if not ended:
            command.kill()
        status = command.wait()
        assert status in (0, -signal.SIGKILL), command.log.read_text()
        return status != 0


def _wait_for_change(folder, command) -> bool:
    """Wait until a file in the folder is new, gone or of another size; False if the command ends before."""
    before = dict(_sizes(folder))
    while dict(_sizes(folder)) == before:
        if command.ended(0.0002):
            return False
    return True


def _sizes(folder) -> Iterator[tuple[str, int]]:
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            yield entry.path, entry.stat().st_ino if entry.is_dir() else entry.stat().st_size
            if entry.is_dir():
                yield from _sizes(entry.path)


def check(server, case, kills, folder, images):
    """Kill runs of a case as often as asked for; each must end as the run that was never killed."""
    training, draws, left = Training(server, case, folder, images), random.Random(str(case)), list(kills)  # noqa: S311  # keeps no secret
    while left:
        del left[: training.kill(left, draws)]
        assert differences(training.expected, outcome(training.run("broken"))) == []


@pytest.mark.parametrize("case", FEW_KILLS, ids=str)
def test_a_run_killed_at_any_time_ends_as_if_it_never_was(server, images, case, tmp_path):
    check(server, case, FEW_KILLS[case], tmp_path, images)


@pytest.mark.slow
@pytest.mark.parametrize("case", ALL_CASES, ids=str)
def test_every_method_killed_many_times_ends_as_if_it_never_was(server, images, case, tmp_path):
    check(server, case, MANY_KILLS, tmp_path, images)


def test_a_run_killed_while_it_finishes_ends_as_if_it_never_was(server, images, tmp_path):
    training = Training(server, Case("dtskd", epochs=2), tmp_path, images)
    for attempt in range(10):  # finishing takes a moment only, which a busy machine may let pass
        runs = f"broken-{attempt}"
        run, command = training.run(runs), training.start(runs)
        while not run.network_file.exists() and not command.ended(0.0002):
            pass  # it is the first file that is written after the last epoch
        command.kill()
        if command.wait() == -signal.SIGKILL and not run.scores_file.exists():
            break
    else:
        pytest.fail("it finished each time before it could be killed")
    assert epochs_done(run.checkpoints) == 2
    training.finish(runs)
    assert differences(training.expected, outcome(run)) == []


def test_a_command_is_killed_by_sigkill_however_young_it_is(server, images, tmp_path):
    for _ in range(3):
        command = server.start(Case("plain").command(tmp_path / "runs", images), tmp_path / "log.txt")
        command.kill()
        assert command.wait() == -signal.SIGKILL
        assert not list(tmp_path.rglob("metrics.csv")), "it had only begun"


@pytest.mark.slow
def test_two_processes_killed_one_and_then_both_end_as_if_they_never_were(cifar100_root, tmp_path):
    options = {"name": "killed", "data.root": cifar100_root, "data.train_per_class": 10, "backbone.width": 8}
    options |= {"trainer.epochs": 4, "trainer.evaluate_every": 4, "trainer.precision": "bf16-mixed"}
    options |= {"trainer.devices": 2}
    overrides = [f"{key}={value}" for key, value in {**options, "trainer.accelerator": "cpu"}.items()]

    def train(runs):
        return start("dtskd/cifar100/resnet18/dtskd", tmp_path / runs, *overrides, group=True)

    unbroken, broken = (RunFolder(tmp_path / runs / "killed" / "seed-0") for runs in ("unbroken", "broken"))
    status, errors = finish(train("unbroken"))
    assert status == 0, errors
    epoch_seconds = read_epoch_log(unbroken.metrics_file)[-1]["seconds/train"]
    draws = random.Random(0)  # noqa: S311  # keeps no secret
    for epoch, whole in ((1, False), (2, True)):
        process = train("broken")
        wait_for_epoch(broken, epoch, process)
        time.sleep(draws.uniform(0, epoch_seconds))
        if whole:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            os.kill(draws.choice(trainers(process)), signal.SIGKILL)
        assert finish(process)[0] == (-signal.SIGKILL if whole else 1)
        assert epochs_done(broken.checkpoints) < 4
        time.sleep(1)  # until the system has taken the lock from the killed processes
    status, errors = finish(train("broken"))
    assert status == 0, errors
    assert differences(outcome(unbroken), outcome(broken)) == []


def test_a_difference_of_a_bit_is_seen():
    zero = {"a": torch.zeros(2), "b": 1.5, "c": b"x"}
    assert differences(zero, {**zero, "a": torch.zeros(2)}) == []
    assert differences(zero, {"a": -torch.zeros(2), "b": 1.5, "d": 0}) == ["a", "c", "d"]
    assert differences({"a": torch.zeros(2)}, {"a": torch.zeros(2).double()}) == ["a"]
