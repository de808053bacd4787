"""Real processes, which are started, stopped and killed."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from contextlib import redirect_stderr
from pathlib import Path

import pytest

from selfkd.cores import available_cores
from selfkd.errors import OptionError, ProcessLostError, RecipeError
from selfkd.methods.plain import Plain
from selfkd.recipes.reader import resolve
from selfkd.runs import distributed, training_process
from selfkd.runs.distributed import train_in_processes
from selfkd.runs.run_folder import RunFolder
from selfkd.runs.training_process import Training, TrainingProcess
from selfkd.signals import StopSignal

PLAIN = "demo/digits/resnet18/plain"
LONG = 300


@pytest.fixture
def started(monkeypatch):
    """The processes that were started."""
    processes = []

    def start(*arguments):
        processes.append(TrainingProcess(*arguments))
        return processes[-1]

    monkeypatch.setattr(distributed, "TrainingProcess", start)
    return processes


@pytest.fixture
def start(started, tmp_path, monkeypatch):
    """`start("wait")`: two processes do this, below `tmp_path`; when it ends, they have ended."""
    monkeypatch.setattr(training_process, "_MODULE", "other_command")
    monkeypatch.chdir(tmp_path)

    def run(work):
        monkeypatch.setenv("WORK", work)
        began = time.monotonic()
        try:
            train_in_processes(Training(resolve(PLAIN), tmp_path / "runs", False, False, False), 2)
        finally:
            assert all(process.has_ended for process in started)
            assert time.monotonic() - began < LONG, "one of them was waited for"

    return run


@pytest.fixture
def start_and_stop(start, tmp_path):
    """`start_and_stop("wait")`: two processes do this, and this process is told to stop when both are at work."""
    ended = threading.Event()

    def stop_once_they_work():
        while not ended.wait(0.05):
            if len(list(tmp_path.glob("*.txt"))) == 2:
                os.kill(os.getpid(), signal.SIGTERM)
                return

    def run(work):
        thread = threading.Thread(target=stop_once_they_work)
        thread.start()
        try:
            with pytest.raises(StopSignal, match="SIGTERM"):
                start(work)
        finally:
            ended.set()
            thread.join()

    return run


def test_an_error_of_one_process_ends_all_and_is_that_of_the_run(start):
    with pytest.raises(OptionError, match="trainer.shoes=3 is not allowed; trainer.shoes must be two") as raised:
        start("refuse")
    assert raised.value.exit_status == 2


def test_a_foreign_error_is_named_with_its_traceback_and_not_its_consequences(start):
    with pytest.raises(RuntimeError) as raised:
        start("fail")
    assert str(raised.value) == "process 1 of 2 failed: ZeroDivisionError: nobody's fault"
    assert "in fail" in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize(
    ("work", "how"), [("lose_by_sigkill", "SIGKILL"), ("lose_by_sigsegv", "SIGSEGV"), ("leave_early", "status 3")]
)
def test_a_lost_process_is_named_and_not_those_that_fail_because_of_it(start, work, how):
    with pytest.raises(ProcessLostError, match=rf"process 1 .* of 2 was lost \({how}\); the same command continues"):
        start(work)


def test_a_stop_reaches_all_processes_which_share_the_cores(start_and_stop, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "0")  # which says no number
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    start_and_stop("wait")
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    expected = f"{max(1, available_cores() // 2)} threads, which wait PASSIVE"
    assert [file.read_text() for file in tmp_path.glob("*.txt")] == [expected] * 2
    assert os.environ["OMP_NUM_THREADS"] == "0"
    assert "OMP_WAIT_POLICY" not in os.environ


def test_a_stop_is_not_lost_where_all_processes_end_well(start_and_stop):
    start_and_stop("obey")


def test_processes_that_ignore_a_stop_are_ended_after_a_while(start_and_stop, monkeypatch):
    monkeypatch.setattr(training_process, "_STOP_SECONDS", 0.5)
    start_and_stop("hang")


def test_a_stop_while_processes_are_started_leaves_none_behind(start, started, monkeypatch):
    begin = distributed.TrainingProcess

    def start_and_be_told_to_stop(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return begin(*arguments)

    monkeypatch.setattr(distributed, "TrainingProcess", start_and_be_told_to_stop)
    with pytest.raises(StopSignal, match="SIGTERM"):
        start("wait")
    assert len(started) == 2


def test_an_error_while_processes_are_started_leaves_none_behind(start, started, monkeypatch):
    begin = distributed.TrainingProcess

    def start_one(training, folder, *rest):
        if folder.name == "1":
            raise OSError(12, "Cannot allocate memory")
        return begin(training, folder, *rest)

    monkeypatch.setattr(distributed, "TrainingProcess", start_one)
    with pytest.raises(OSError, match="Cannot allocate memory"):
        start("wait")
    assert len(started) == 1


def test_processes_end_when_their_parent_is_killed(tmp_path):
    code = f"""
import signal
from pathlib import Path
from selfkd.recipes.reader import resolve
from selfkd.runs import training_process
from selfkd.runs.distributed import train_in_processes

signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for a job in the background
training_process._MODULE = "other_command"
train_in_processes(training_process.Training(resolve({PLAIN!r}), Path("runs"), False, False, False), 2)
"""
    path = os.pathsep.join(filter(None, sys.path))
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path, "WORK": "hang"},
    ) as parent:
        while len(list(tmp_path.glob("*.txt"))) < 2:
            assert parent.poll() is None
            time.sleep(0.05)
        parent.kill()
        parent.communicate(timeout=60)  # the processes share its output, which ends with the last of them


def test_a_stream_without_a_descriptor_gets_the_standard_error_also_in_a_thread(start, tmp_path):
    with redirect_stderr(io.StringIO()) as shown:
        thread = threading.Thread(target=start, args=("write",))
        thread.start()
        thread.join()
    assert shown.getvalue() == "\r10 % █ of it"
    assert (tmp_path / "standard-error.txt").read_text().startswith("True ")


def test_a_stream_that_is_closed_early_does_not_block_the_processes(start, tmp_path):
    stream = io.StringIO()
    with redirect_stderr(stream):
        stream.close()
        start("write")
    assert (tmp_path / "standard-error.txt").exists()


def test_the_standard_error_of_this_process_is_that_of_all(start, tmp_path, capfd, monkeypatch):
    with open(2, "w", closefd=False) as own:
        monkeypatch.setattr(sys, "stderr", own)
        start("write")
    assert (tmp_path / "standard-error.txt").read_text() == f"False {os.fstat(2).st_ino}"
    assert capfd.readouterr().err == "\r10 % █ of it"


def test_a_part_of_the_main_program_is_refused_before_a_process_starts(start, started, monkeypatch, tmp_path):
    monkeypatch.setattr(sys.modules["__main__"], "Mine", Plain, raising=False)
    recipe = resolve(PLAIN, {"method": "__main__:Mine"})
    with pytest.raises(RecipeError, match="method=__main__:Mine is defined in the main program.* a module of its own"):
        train_in_processes(Training(recipe, tmp_path, False, False, False), 2)
    of_teacher = {"teacher": "file", "teacher.path": "teacher.pth", "teacher.backbone": "__main__:Mine"}
    student = resolve(PLAIN, {"method": "kd", **of_teacher})
    with pytest.raises(RecipeError, match="teacher.backbone=__main__:Mine is defined in the main program"):
        train_in_processes(Training(student, tmp_path, False, False, False), 2)
    assert not started


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["file", "interactive"])
def test_a_program_needs_no_main_guard_nor_a_main_file(kind, tmp_path):
    code, folder = tmp_path / "code", tmp_path / "work"
    options = {"name": "mine", "method": "beside_it:Mine", "backbone.width": 4, "trainer.epochs": 2}
    options |= {"data.train_per_class": 2, "trainer.devices": 2, "trainer.accelerator": "cpu"}
    for path in (code, folder):
        path.mkdir()
    where = code if kind == "file" else folder  # where Python looks for the modules of this program
    (where / "beside_it.py").write_text(
        "from selfkd.methods.plain import Plain\n\n\nclass Mine(Plain):\n    'My own.'\n"
    )
    (code / "program.py").write_text(
        "from pathlib import Path\n"
        "from selfkd.recipes.reader import resolve\n"
        "from selfkd.runs.train import run\n"
        f"print(run(resolve({PLAIN!r}, {options!r}), Path('runs')).path)\n"
    )
    command = [sys.executable, str(code / "program.py") if kind == "file" else "-i"]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        input=None if kind == "file" else (code / "program.py").read_text(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{Path('runs', 'mine', 'seed-0')}\n", "the program ran once"
    assert "epoch 2/2" in done.stderr, "the bar of the first process"
    assert done.stderr.count("step/s]") > 0
    assert "CPU threads" not in done.stderr, "a program that configures no logging sees warnings only"
    assert RunFolder(folder / "runs" / "mine" / "seed-0").is_finished
