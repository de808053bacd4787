"""Real processes whose data breaks under them, or whose workers are killed."""

import os
import signal
from pathlib import Path

import pytest

from real_runs import children, finish, start, wait_for_epoch
from selfkd.recipes.reader import resolve
from selfkd.runs.run_folder import RunFolder
from selfkd.training.checkpoint_files import epochs_done

EPOCHS = 6


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "runs" / "broken" / "seed-0")


@pytest.fixture
def train(digits_as_imagenet, tmp_path):
    """`train()`: a process that trains on images read from disk."""
    recipe = resolve(
        "dtskd/imagenet/resnet18/dtskd",
        {
            "name": "broken",
            "data.root": str(digits_as_imagenet),
            "data.image_size": 32,
            "data.resize": 36,
            "augmentation.size": 32,
            "backbone": "resnet18_cifar",
            "backbone.width": 8,
            "trainer.epochs": EPOCHS,
            "loader.batch_size": 2,
            "loader.evaluation_batch_size": 2,
            "loader.workers": 1,
        },
    )
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe.to_yaml())
    return lambda **options: start(file, tmp_path / "runs", **options)


def check_it_continues(train, folder):
    done = epochs_done(folder.checkpoints)
    assert 1 <= done < EPOCHS
    status, errors = finish(train())
    assert status == 0, errors
    assert f"continues after epoch {done} of {EPOCHS}" in errors
    assert folder.scores()["last"]["epoch"] == EPOCHS


def test_a_file_that_becomes_unreadable_is_named_and_the_run_continues_once_it_is_mended(
    train, folder, digits_as_imagenet
):
    image = sorted((digits_as_imagenet / "train").rglob("*.JPEG"))[10]
    whole = image.read_bytes()
    process = train()
    wait_for_epoch(folder, 1, process)
    image.write_bytes(whole[: len(whole) // 2])
    status, errors = finish(process)  # returns only when the workers have ended, too
    assert status == 2
    assert f"{image}: not a readable image" in errors
    assert "once it is repaired or replaced, the same command continues" in errors
    assert "Traceback" not in errors
    image.write_bytes(whole)
    check_it_continues(train, folder)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the workers in /proc")
def test_a_killed_worker_ends_the_run_with_a_message_and_it_continues(train, folder):
    process = train()
    wait_for_epoch(folder, 1, process)
    idle = children(process)  # the workers of the finished epoch
    while not (working := children(process) - idle):
        assert process.poll() is None
    (worker,) = working
    os.kill(worker, signal.SIGSTOP)  # so that it cannot end its work before it is killed
    os.kill(worker, signal.SIGKILL)
    status, errors = finish(process)
    assert status == 1, errors
    assert "a process that reads images was killed" in errors
    assert "Traceback" not in errors
    check_it_continues(train, folder)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the workers in /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_stop_that_reaches_the_workers_too_is_a_stop_without_a_traceback(train, folder, number):
    """As a batch system or a terminal sends it: to the whole group, and also while a worker is being forked."""
    for epoch in (1, 2, 3):
        process = train(group=True)
        wait_for_epoch(folder, epoch, process)
        idle = children(process)
        while not children(process) - idle:
            assert process.poll() is None
        os.killpg(process.pid, number)
        status, errors = finish(process)
        assert status == 128 + number, errors
        assert "the same command continues" in errors.splitlines()[-1], errors
        assert "Traceback" not in errors
        assert "Exception ignored" not in errors
