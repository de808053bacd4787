"""Real processes, really killed."""

import json
import os
import shutil
import signal
import socket

import pytest
import torch

from real_runs import differences, finish, outcome, start, trainers, wait_for_epoch
from selfkd.recipes.reader import resolve
from selfkd.runs.kept_predictions import read_predictions
from selfkd.runs.run_folder import RunFolder
from selfkd.training.checkpoint_files import epochs_done

EPOCHS = 12


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory):
    options = {"trainer.epochs": EPOCHS, "trainer.evaluate_every": 3, "backbone.width": 16}
    file = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    file.write_text(resolve("demo/digits/resnet18/dtskd", {"name": "killed", **options}).to_yaml())
    return file


@pytest.fixture(scope="module")
def unbroken(recipe_file, tmp_path_factory):
    """The run of one process that was never killed."""
    runs = tmp_path_factory.mktemp("unbroken")
    assert finish(start(recipe_file, runs))[0] == 0
    return RunFolder(runs / "killed" / "seed-0")


@pytest.mark.slow  # test_kills.py kills some, too
def test_a_killed_run_ends_as_if_it_never_was(recipe_file, unbroken, tmp_path):
    every = 3
    option = f"trainer.checkpoint_every={every}"
    broken = RunFolder(tmp_path / "broken" / "killed" / "seed-0")
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
    assert differences(outcome(unbroken), outcome(broken)) == []
    assert broken.scores()["seconds"] != unbroken.scores()["seconds"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ("method=loth", "supervision=historical", "supervision.alpha=0.8"),
        ("method=teskd", "supervision=smoothed"),
    ],
    ids=["loth historical", "teskd smoothed"],
)
def test_a_killed_run_with_a_supervision_ends_as_if_it_never_was(overrides, tmp_path):
    recipe = "demo/digits/resnet18/plain"
    overrides = (*overrides, "name=killed", "trainer.epochs=5", "backbone.width=8")
    unbroken, broken = (RunFolder(tmp_path / runs / "killed" / "seed-0") for runs in ("unbroken", "broken"))
    assert finish(start(recipe, tmp_path / "unbroken", *overrides))[0] == 0
    process = start(recipe, tmp_path / "broken", *overrides)
    wait_for_epoch(broken, 3, process)
    process.send_signal(signal.SIGKILL)
    assert finish(process)[0] == -signal.SIGKILL
    status, errors = finish(start(recipe, tmp_path / "broken", *overrides))
    assert status == 0, errors
    assert "continues after epoch" in errors
    assert differences(outcome(unbroken), outcome(broken)) == []
    assert {file.name for file in unbroken.checkpoints.rglob("*.pt")} == (
        {"history.pt"} if "supervision=historical" in overrides else set()
    )


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM], ids=lambda number: number.name
)
def test_ctrl_c_and_sigterm_end_cleanly_and_the_same_command_continues(recipe_file, tmp_path, number):
    folder = RunFolder(tmp_path / "runs" / "killed" / "seed-0")
    process = start(recipe_file, tmp_path / "runs")
    wait_for_epoch(folder, 2, process)
    process.send_signal(number)
    status, errors = finish(process)
    assert status == 128 + number
    assert f"of {EPOCHS}; the same command continues" in errors
    assert "Traceback" not in errors
    assert finish(start(recipe_file, tmp_path / "runs"))[0] == 0
    assert folder.scores()["last"]["epoch"] == EPOCHS


def test_a_run_that_lost_only_its_scores_is_finished_without_training(recipe_file, unbroken, tmp_path):
    folder = RunFolder(tmp_path / "runs" / "killed" / "seed-0")
    shutil.copytree(unbroken.path, folder.path)
    scores, network, log = folder.scores(), folder.network_file.read_bytes(), folder.metrics_file.read_text()
    folder.scores_file.unlink()
    assert finish(start(recipe_file, tmp_path / "runs"))[0] == 0
    assert folder.scores() == scores
    assert folder.network_file.read_bytes() == network
    assert folder.metrics_file.read_text() == log


def test_a_disk_that_is_full_ends_the_run_and_it_continues_once_there_is_room(recipe_file, unbroken, tmp_path):
    folder = RunFolder(tmp_path / "runs" / "killed" / "seed-0")
    status, errors = finish(start(recipe_file, tmp_path / "runs", largest_file=2_000_000))
    assert status == 1
    assert "cannot be written" in errors
    assert "what was saved before is whole" in errors
    assert "Traceback" not in errors
    assert not list(folder.path.rglob("*.partial"))
    assert finish(start(recipe_file, tmp_path / "runs"))[0] == 0
    assert folder.network_file.read_bytes() == unbroken.network_file.read_bytes()


@pytest.mark.slow
def test_torchrun_on_two_machines_trains_one_run_and_reports_once(recipe_file, tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        endpoint = f"--rdzv-endpoint=localhost:{free.getsockname()[1]}"
    launcher = ("torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", endpoint, "-m")
    overrides = ("trainer.epochs=2", "name=torchrun", "trainer.num_nodes=2", "--keep-logits")
    machines = [start(recipe_file, tmp_path / "runs", *overrides, launcher=launcher) for _ in range(2)]
    printed = [machine.communicate() for machine in machines]
    errors = "".join(said for _, said in printed)
    assert [machine.returncode for machine in machines] == [0, 0], errors
    (record,) = json.loads("".join(output for output, _ in printed))
    assert record["last"]["epoch"] == 2
    assert errors.count("images (10 of each class") == 1
    folder = RunFolder(tmp_path / "runs" / "torchrun" / "seed-0")
    assert folder.scores()["recipe"] == "torchrun"
    assert json.loads(folder.environment_file.read_text())["processes"] == 2
    predictions = read_predictions(folder, "test", "last")
    assert torch.equal(predictions.indices, torch.arange(1697)), "those of both, in the order of the split"
    correct = (predictions.logits["main"].argmax(dim=1) == predictions.labels).float().mean()
    assert 100 * float(correct) == pytest.approx(
        folder.scores()["last"]["scores"]["test"]["main"]["top1"]["value"], abs=1e-3
    )


@pytest.mark.slow
def test_one_of_several_processes_is_killed_and_the_run_continues(recipe_file, tmp_path):
    folder = RunFolder(tmp_path / "runs" / "killed" / "seed-0")
    process = start(recipe_file, tmp_path / "runs", "trainer.devices=2")
    wait_for_epoch(folder, 2, process)
    processes = trainers(process)
    assert len(processes) == 2
    os.kill(processes[1], signal.SIGKILL)
    status, errors = finish(process)
    assert status == 1
    assert "of 2 was lost (SIGKILL); the same command continues" in errors
    assert "Traceback" not in errors
    done = epochs_done(folder.checkpoints)
    assert 1 <= done < EPOCHS
    status, errors = finish(start(recipe_file, tmp_path / "runs"))
    assert status == 0, errors
    assert f"continues after epoch {done} of {EPOCHS}" in errors
    assert "2 processes trained this run so far, now there are 1" in errors
    assert "CPU threads: 1 (as OMP_NUM_THREADS says)" in errors, "not what each of the two had"


@pytest.mark.slow
def test_a_killed_run_keeps_its_number_of_threads(recipe_file, tmp_path):
    folder = RunFolder(tmp_path / "runs" / "killed" / "seed-0")
    process = start(recipe_file, tmp_path / "runs", "trainer.threads=2")
    wait_for_epoch(folder, 2, process)
    process.send_signal(signal.SIGKILL)
    assert finish(process)[0] == -signal.SIGKILL
    status, errors = finish(start(recipe_file, tmp_path / "runs"))
    assert status == 0, errors
    assert "CPU threads: 2 (as before" in errors
    assert json.loads(folder.environment_file.read_text())["threads"] == 2
