"""Real processes, really killed."""

import os
import signal
import subprocess
import sys
import time

import pytest

from selfkd.runs.run_folder import RunFolder
from selfkd.training.checkpoint_files import epochs_done
from selfkd.training.epoch_log import read_epoch_log

EPOCHS = 12


def start(recipe, runs, *overrides):
    arguments = ["train", str(recipe), *overrides, "--runs", str(runs), "--no-progress", "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "selfkd", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background job, such as a CI run, hands an ignored SIGINT down.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def finish(process):
    """Exit status and standard error of a process at its end."""
    _, errors = process.communicate()
    return process.returncode, errors


def wait_for_epoch(folder, epoch, process):
    deadline = time.monotonic() + 120
    while not any(row["epoch"] >= epoch for row in read_epoch_log(folder.metrics_file)):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def recipe_file(short, tmp_path):
    recipe = short(name="killed", **{"trainer.epochs": EPOCHS, "trainer.evaluate_every": 3, "backbone.width": 16})
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe.to_yaml())
    return file


def without_times(folder):
    rows = read_epoch_log(folder.metrics_file)
    return [{key: value for key, value in row.items() if not key.startswith("seconds/")} for row in rows]


@pytest.mark.parametrize("every", [1, 3])
def test_a_killed_run_ends_as_if_it_never_was(recipe_file, tmp_path, every):
    option = f"trainer.checkpoint_every={every}"
    unbroken, broken = (RunFolder(tmp_path / runs / "killed" / "seed-0") for runs in ("unbroken", "broken"))
    assert finish(start(recipe_file, tmp_path / "unbroken"))[0] == 0
    for epoch in (4, 7):
        process = start(recipe_file, tmp_path / "broken", option)
        wait_for_epoch(broken, epoch, process)
        process.send_signal(signal.SIGKILL)
        assert finish(process)[0] == -signal.SIGKILL
        assert not broken.scores_file.exists()
        done = epochs_done(broken.checkpoints)
        assert 1 <= done < EPOCHS
        assert done % every == 0
    status, errors = finish(start(recipe_file, tmp_path / "broken", option))
    assert status == 0, errors
    assert "continues after epoch" in errors
    assert broken.network_file.read_bytes() == unbroken.network_file.read_bytes()
    assert without_times(broken) == without_times(unbroken)
    ours, theirs = dict(broken.scores()), dict(unbroken.scores())
    assert ours.pop("seconds") != theirs.pop("seconds")
    assert ours == theirs


def test_ctrl_c_ends_cleanly_and_the_same_command_continues(recipe_file, tmp_path):
    folder = RunFolder(tmp_path / "runs" / "killed" / "seed-0")
    process = start(recipe_file, tmp_path / "runs")
    wait_for_epoch(folder, 2, process)
    process.send_signal(signal.SIGINT)
    status, errors = finish(process)
    assert status == 130
    assert f"of {EPOCHS}; the same command continues" in errors
    assert "Traceback" not in errors
    assert finish(start(recipe_file, tmp_path / "runs"))[0] == 0
    assert folder.scores()["last"]["epoch"] == EPOCHS


def test_a_run_that_lost_only_its_scores_is_finished_without_training(recipe_file, tmp_path):
    folder = RunFolder(tmp_path / "runs" / "killed" / "seed-0")
    assert finish(start(recipe_file, tmp_path / "runs"))[0] == 0
    scores, network, log = folder.scores(), folder.network_file.read_bytes(), folder.metrics_file.read_text()
    folder.scores_file.unlink()
    assert finish(start(recipe_file, tmp_path / "runs"))[0] == 0
    assert folder.scores() == scores
    assert folder.network_file.read_bytes() == network
    assert folder.metrics_file.read_text() == log
