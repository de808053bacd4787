import os
import shutil
import subprocess
import sys

import pytest

import selfkd
from selfkd.errors import RunError
from selfkd.runs.listing import list_runs
from selfkd.runs.run_folder import RunFolder


def test_every_run_has_its_state_and_its_accuracies(finished, unfinished):
    runs = {run.recipe: run for run in selfkd.list_runs(finished.path.parents[1])}
    scores = finished.scores()
    done = runs["finished"]
    assert (done.path, done.state, done.seed, done.epochs_done, done.epochs) == (finished.path, "finished", 0, 3, 3)
    assert done.top1_last == scores["last"]["scores"]["test"]["main"]["top1"]["value"]
    assert done.top1_best == scores["best"]["scores"]["test"]["main"]["top1"]["value"]
    stopped = runs["unfinished"]
    assert (stopped.state, stopped.epochs_done, stopped.epochs, stopped.top1_last) == ("unfinished", 2, 3, None)
    with unfinished.locked():
        assert {run.recipe: run.state for run in list_runs(finished.path.parents[1])}["unfinished"] == "training"
    assert list_runs(finished.path.parents[1])[1].state == "unfinished"


def test_a_folder_that_is_a_run_is_listed_alone(finished, unfinished):
    assert [run.path for run in list_runs(finished.path)] == [finished.path]
    assert list_runs(finished.checkpoints) == []


def test_seeds_are_in_the_order_of_numbers(finished):
    root = finished.path.parents[1]
    for seed in (10, 9, 100):
        shutil.copytree(finished.path, finished.path.with_name(f"seed-{seed}"))
    assert [run.path.name for run in list_runs(root)] == ["seed-0", "seed-9", "seed-10", "seed-100"]


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda run: run.scores_file.write_text("{"), "scores.json cannot be read"),
        (lambda run: run.scores_file.write_text("{}"), "scores.json is damaged: it lacks recipe"),
        (lambda run: run.recipe_file.write_text("a: [1"), "recipe.yaml cannot be read as a recipe"),
        (lambda run: run.recipe_file.write_text("method: plain"), "it lacks name, seed or trainer.epochs"),
        (lambda run: run.recipe_file.unlink(), "it holds no recipe.yaml"),
    ],
)
def test_a_damaged_run_is_named_and_the_others_are_listed(finished, unfinished, spoil, problem):
    spoil(finished)
    damaged, other = list_runs(finished.path.parents[1])
    assert (damaged.path, damaged.state) == (finished.path, "damaged")
    assert problem in damaged.problem
    assert other.state == "unfinished"


def test_what_is_no_run_is_not_listed(finished, tmp_path):
    shutil.copy(finished.recipe_file, tmp_path / "runs")  # a user's copy of a recipe, among the runs
    (tmp_path / "runs" / "logs" / "version_0" / "checkpoints").mkdir(parents=True)
    (tmp_path / "runs" / "logs" / "version_0" / "metrics.csv").write_text("step\n")
    (tmp_path / "runs" / "broken-link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "runs" / "circle").symlink_to("circle")
    assert [run.path for run in list_runs(tmp_path / "runs")] == [finished.path]


def test_links_are_followed_and_each_run_is_listed_once(finished, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    finished.path.parent.rename(elsewhere)
    root = tmp_path / "runs"
    (root / "linked").symlink_to(elsewhere)
    (root / "linked-again").symlink_to(elsewhere)
    (elsewhere / "above").symlink_to(root)
    (run,) = list_runs(root)
    assert run.state == "finished"


def test_a_folder_that_cannot_be_read_is_named(finished, tmp_path, monkeypatch):
    closed = tmp_path / "runs" / "closed"
    closed.mkdir()
    scandir = os.scandir

    def refuse(path):
        if path == closed:
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)  # root may read everything
    first, second = list_runs(tmp_path / "runs")
    assert (first.path, first.problem) == (closed, "the folder cannot be read: Permission denied")
    assert second.path == finished.path


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(RunError, match="nowhere is not a folder"):
        list_runs(tmp_path / "nowhere")
    assert list_runs(tmp_path) == []


def test_runs_are_listed_without_torch(finished):
    code = f"""
import sys
from selfkd.cli import main
assert main(["list", "runs", {str(finished.path.parents[1])!r}]) == 0
heavy = [name for name in ("torch", "timm", "pytorch_lightning", "sklearn") if name in sys.modules]
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    header, row = done.stdout.splitlines()
    assert header.split() == ["recipe", "seed", "top-1", "last", "(%)", "best", "(%)", "state", "folder"]
    assert row.split()[0] == "finished"
    assert row.endswith(str(finished.path))


def test_a_lock_that_a_listing_holds_for_a_moment_stops_no_training(finished, monkeypatch):
    assert not RunFolder(finished.path).is_locked
    finished.lock_file.unlink()
    assert not RunFolder(finished.path).is_locked
    assert not finished.lock_file.exists(), "looking leaves nothing behind"
