import subprocess
import sys
import time
from pathlib import Path

import pytest

from selfkd.errors import DataError, RunInterruptedError, SelfKDError
from selfkd.recipes.reader import resolve
from selfkd.runs import training_process
from selfkd.runs.run_folder import RunFolder
from selfkd.runs.training_process import ErrorReport, Training, TrainingProcess, stop_all

PLAIN = "demo/digits/resnet18/plain"
TINY = {"backbone.width": 4, "trainer.epochs": 1, "data.train_per_class": 2}


def started(recipe, tmp_path, **options):
    """A process that trains a recipe below `tmp_path`."""
    training = Training(recipe, tmp_path / "runs", False, False, False, **options)
    return TrainingProcess(training, tmp_path / "exchanged", {"LOKY_MAX_CPU_COUNT": "1"})


def trained(recipe, tmp_path, **options):
    """The ended process that trained a recipe below `tmp_path`."""
    process = started(recipe, tmp_path, **options)
    process.close(seconds=120)
    assert process.has_ended
    return process


@pytest.fixture
def running(monkeypatch):
    """`running(code)`: from now on, a process that trains runs this code instead."""
    popen = subprocess.Popen

    def replace(code):
        monkeypatch.setattr(subprocess, "Popen", lambda command, **rest: popen([sys.executable, "-c", code], **rest))

    return replace


@pytest.mark.slow
def test_a_process_trains_a_resolved_recipe_with_its_own_parts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "own_method.py").write_text(
        "import joblib\nfrom selfkd.methods.plain import Plain\n\n\n"
        "class Mine(Plain):\n    'My own.'\n\n    def begin_epoch(self, progress):\n"
        "        open('cores.txt', 'w').write(str(joblib.cpu_count()))\n        super().begin_epoch(progress)\n"
    )
    recipe = resolve(PLAIN, {**TINY, "method": "own_method:Mine", "seed": 3})
    assert trained(recipe, tmp_path, keep_logits=True).error is None
    folder = RunFolder.of(recipe, tmp_path / "runs")
    assert folder.is_finished
    assert folder.recipe(trust_imports=True) == recipe
    assert folder.predictions_file("test", "last").exists()
    assert (tmp_path / "cores.txt").read_text() == "1"


def test_a_training_comes_back_from_its_folder_with_its_published_figure(tmp_path):
    recipe = resolve("dtskd/cifar100/resnet18/ps_kd", {"data.root": "~", "trainer.devices": 2})
    training = Training(recipe, Path("runs"), overwrite=True, show_progress=False, trust_imports=True, log_level=30)
    training.write(tmp_path)
    read = Training.read(tmp_path)
    assert read == Training(recipe, Path("runs").absolute(), True, False, True, log_level=30)
    assert read.recipe.published


@pytest.mark.slow
def test_the_error_that_a_process_reports_is_its_error(tmp_path):
    missing = resolve(PLAIN, {**TINY, "data": "folder", "data.image_size": 16, "data.root": str(tmp_path / "nowhere")})
    process = trained(missing, tmp_path)
    assert process.status == 2
    assert process.error.startswith("data.root=")
    assert "nowhere' is not a folder" in process.error


@pytest.mark.slow
def test_a_process_may_train_a_run_of_two_processes(tmp_path):
    recipe = resolve(PLAIN, {**TINY, "trainer.devices": 2, "trainer.accelerator": "cpu"})
    process = trained(recipe, tmp_path)
    assert process.error is None
    assert RunFolder.of(recipe, tmp_path / "runs").is_finished


def test_a_foreign_error_is_unforeseen_and_its_traceback_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(training_process, "_MODULE", "other_command")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("WORK", "fail")
    monkeypatch.setenv("RANK", "1")
    error = trained(resolve(PLAIN), tmp_path).error
    (log,) = tmp_path.glob("selfkd-error-*.log")
    expected = "unforeseen error, please report it: ZeroDivisionError: nobody's fault; the details are in"
    assert error.startswith(f"{expected} {log};")
    assert f"selfkd train {PLAIN} seed=0" in log.read_text()
    assert "in fail" in log.read_text()


@pytest.mark.parametrize(
    ("output", "status", "expected"),
    [
        (b"", 0, None),
        (
            b"Fatal Python\nerror\n",
            3,
            "the process that trained it ended with status 3 and no message: Fatal Python error",
        ),
        (b"", -9, "the process that trained it was killed (SIGKILL); the same command continues"),
    ],
)
def test_an_end_without_a_report_has_a_message(tmp_path, running, output, status, expected):
    running(f"import os, sys; os.write(2, {output!r}); os.kill(os.getpid(), 9) if {status} < 0 else os._exit({status})")
    assert trained(resolve(PLAIN), tmp_path).error == expected


class OwnError(SelfKDError):
    """A custom part raises it."""

    exit_status = 7


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (DataError("the file is\n  gone"), DataError),
        (RunInterruptedError("stopped", 15), RunInterruptedError),
        (OwnError("mine"), SelfKDError),
    ],
)
def test_an_error_keeps_its_class_message_and_status(tmp_path, error, kind):
    ErrorReport.of(error).write(tmp_path)
    read = ErrorReport.read(tmp_path).error()
    assert type(read) is kind
    assert str(read) == str(error)
    assert read.exit_status == error.exit_status


def test_a_process_that_does_not_stop_is_ended(tmp_path, monkeypatch, running):
    monkeypatch.chdir(tmp_path)
    running("import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open('ready', 'w'); time.sleep(600)")
    monkeypatch.setattr(training_process, "_END_SECONDS", 0.1)
    monkeypatch.setattr(training_process, "_STOP_SECONDS", 0.5)
    process = started(resolve(PLAIN), tmp_path)
    while not (tmp_path / "ready").exists():
        time.sleep(0.01)
    stop_all([process])
    assert process.error == "the process that trained it was killed (SIGKILL); the same command continues"
