"""What --overwrite deletes, and what it refuses to delete."""

import os
import shutil
from pathlib import Path

import pytest

from selfkd.errors import (
    RunError,
)
from selfkd.runs.train import run


def overwritten(folder):
    """The run again, from the start."""
    return run(folder.recipe(), folder.path.parents[1], overwrite=True, show_progress=False)


def contents(path):
    """Every file below a folder, links not followed, with its bytes or the place to which it leads."""
    found = {}
    for parent, folders, files in os.walk(path):
        for entry in (Path(parent, name) for name in [*folders, *files] if name != ".lock"):
            if entry.is_symlink():
                found[entry] = entry.readlink()
            else:
                found[entry] = entry.read_bytes() if entry.is_file() else None
    return found


def note(folder):
    (folder.path / "notes.txt").write_text("mine")
    return "notes.txt"


def nested_run(folder):
    other = folder.path / "other" / "seed-0"
    shutil.copytree(folder.path, other)
    return "other"


def nested_among_checkpoints(folder):
    (folder.checkpoints / "seed-0").mkdir()
    return "checkpoints/seed-0"


def more_in_a_checkpoint(folder):
    (folder.checkpoints / "epoch-000003" / "mine.txt").write_text("mine")
    return "checkpoints/epoch-000003/mine.txt"


def own_export(folder):
    (folder.path / "export").mkdir()
    (folder.path / "export" / "mine.safetensors").write_text("mine")
    return "export/mine.safetensors"


def link_to_somebodys_file(folder):
    (folder.path.parent / "mine").write_text("mine")
    folder.metrics_file.unlink()
    folder.metrics_file.symlink_to(folder.path.parent / "mine")
    return "metrics.csv"


def link_to_somebodys_checkpoints(folder):
    shutil.move(folder.checkpoints, folder.path.parent / "mine")
    folder.checkpoints.symlink_to(folder.path.parent / "mine")
    return "checkpoints"


def folder_for_a_file(folder):
    folder.metrics_file.unlink()
    (folder.metrics_file / "mine").mkdir(parents=True)
    return "metrics.csv"


@pytest.mark.parametrize(
    "add",
    [
        note,
        nested_run,
        nested_among_checkpoints,
        more_in_a_checkpoint,
        own_export,
        link_to_somebodys_file,
        link_to_somebodys_checkpoints,
        folder_for_a_file,
    ],
)
def test_overwriting_deletes_nothing_where_there_is_more_than_a_run(finished, add):
    name = add(finished)
    before = contents(finished.path.parent)
    with pytest.raises(RunError, match=f"holds files that no run writes: {name}; --overwrite deletes only the files "):
        overwritten(finished)
    assert contents(finished.path.parent) == before


def test_overwriting_deletes_nothing_behind_a_link(finished, tmp_path):
    recipe, elsewhere = finished.recipe(), tmp_path / "elsewhere"
    finished.path.rename(elsewhere)
    finished.path.symlink_to(elsewhere)
    before = contents(elsewhere)
    with pytest.raises(RunError, match="is a link to .*elsewhere; --overwrite deletes nothing behind a link"):
        run(recipe, tmp_path / "runs", overwrite=True, show_progress=False)
    assert contents(elsewhere) == before


def test_overwriting_deletes_nothing_of_a_folder_that_is_no_run(finished, tmp_path):
    recipe = finished.recipe()
    shutil.rmtree(finished.path)
    finished.path.mkdir()
    finished.metrics_file.write_text("epoch,loss\n")
    (finished.path / "export").mkdir()
    for recipe_file in (None, "flour: 500\nwater: 300\n"):
        if recipe_file is not None:
            finished.recipe_file.write_text(recipe_file)
        before = contents(finished.path)
        with pytest.raises(RunError, match=r"holds no recipe.yaml of a run, so --overwrite deletes nothing there"):
            run(recipe, tmp_path / "runs", overwrite=True, show_progress=False)
        assert contents(finished.path) == before


def test_overwriting_removes_all_that_a_run_leaves_even_of_one_that_was_killed(finished):
    (finished.path / "tensorboard").mkdir()
    for name in ("hparams.yaml", "events.out.tfevents.1.host.2.0"):
        (finished.path / "tensorboard" / name).touch()
    (finished.path / "export").mkdir()
    (finished.path / "export" / "best.safetensors").touch()
    (finished.checkpoints / "epoch-000002.partial").mkdir()
    (finished.checkpoints / "epoch-000002.partial" / "training.ckpt").touch()
    (finished.path / "model.safetensors.partial").touch()
    (finished.checkpoints / "best.ckpt.partial").touch()
    assert overwritten(finished).is_finished
    files = {".lock", "recipe.yaml", "data.json", "metrics.csv", "model.safetensors", "checksums.json", "scores.json"}
    assert {file.name for file in finished.path.iterdir()} == {*files, "checkpoints", "environment.json"}
