import subprocess
import sys
import time

import pytest

from selfkd.recipes.reader import resolve
from selfkd.runs.run_folder import RunFolder
from selfkd.runs.training_process import TrainingProcess

PLAIN = "demo/digits/resnet18/plain"
TINY = {"backbone.width": 4, "trainer.epochs": 1, "data.train_per_class": 2}


def trained(recipe, tmp_path, **options):
    """The ended process that trained a recipe below `tmp_path`."""
    arguments = {"cores": 1, "trust_imports": False, "overwrite": False, "keep_logits": False, **options}
    process = TrainingProcess(recipe, tmp_path / "runs", tmp_path / "files", **arguments)
    process.close(seconds=120)
    assert process.has_ended
    return process


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


@pytest.mark.slow
def test_the_last_message_of_a_failed_process_is_its_error(tmp_path):
    missing = resolve(PLAIN, {**TINY, "data": "folder", "data.image_size": 16, "data.root": str(tmp_path / "nowhere")})
    error = trained(missing, tmp_path).error
    assert error is not None
    assert error.startswith("data.root=")
    assert "nowhere' is not a folder" in error


@pytest.mark.parametrize(
    ("output", "status", "expected"),
    [
        (b"", 0, None),
        (b"train: 20 images\nselfkd: no\nselfkd: the disk\n  is full\n", 1, "the disk is full"),
        (
            b"Fatal Python error\n",
            3,
            "the process that trained it ended with status 3 and no message: Fatal Python error",
        ),
        (b"", -9, "the process that trained it was killed (SIGKILL); the same command continues"),
    ],
)
def test_every_end_has_a_message(tmp_path, monkeypatch, output, status, expected):
    code = f"import os, sys; os.write(2, {output!r}); os.kill(os.getpid(), 9) if {status} < 0 else os._exit({status})"
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command, **rest: popen([sys.executable, "-c", code], **rest))
    assert trained(resolve(PLAIN), tmp_path).error == expected


def test_a_process_that_does_not_stop_is_ended(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open('ready', 'w'); time.sleep(600)"
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command, **rest: popen([sys.executable, "-c", code], **rest))
    monkeypatch.setattr("selfkd.runs.training_process._END_SECONDS", 0.1)
    process = TrainingProcess(resolve(PLAIN), tmp_path, tmp_path / "files", 1, False, False, False)
    while not (tmp_path / "ready").exists():
        time.sleep(0.01)
    process.stop()
    process.close(seconds=0.5)
    assert process.error == "the process that trained it was killed (SIGKILL); the same command continues"
