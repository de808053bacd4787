import logging
from types import SimpleNamespace

import pytest

from selfkd.runs import several_progress
from selfkd.runs.run_folder import RunFolder
from selfkd.runs.several_progress import SeveralProgress, WatchedRun, seconds_left
from selfkd.training.epoch_log import EpochLog


@pytest.fixture
def watched(short, tmp_path):
    """`watched("dtskd", done=3, seconds=2)`: a run of 10 epochs that has logged three, of two seconds each."""

    def make(demo, done=0, seconds=1.0, seed=0, **options):
        recipe = short(demo, **{"trainer.epochs": 10, "seed": seed})
        folder = RunFolder.of(recipe, tmp_path)
        folder.path.mkdir(parents=True, exist_ok=True)
        log_epochs(folder, 0, done, seconds)
        return WatchedRun(recipe, folder, **options)

    return make


def log_epochs(folder, before, done, seconds):
    log = EpochLog(folder.metrics_file, before)
    for epoch in range(before + 1, done + 1):
        log.log_metrics({"train/loss": 1.0, "seconds/train": seconds}, epoch)


def test_each_recipe_has_its_own_seconds_per_epoch(watched):
    runs = [watched("plain", done=4, seconds=1), watched("dtskd", done=2, seconds=3), watched("plain", seed=1)]
    assert seconds_left(runs, jobs=1) == 6 * 1 + 8 * 3 + 10 * 1


def test_a_recipe_without_a_log_gets_the_mean_of_the_others(watched):
    runs = [watched("plain", done=9, seconds=1), watched("dtskd", done=9, seconds=3)]
    other = watched("plain", seed=5)
    other.recipe = other.recipe.with_seed(5)
    assert seconds_left([*runs, WatchedRun(other.recipe, other.folder)], jobs=1) == 1 + 3 + 10 * 1
    unknown = watched("plain")
    unknown.recipe = type(unknown.recipe)("another", 0, unknown.recipe.parts, unknown.recipe.options)
    unknown.count = type(unknown.count)(0, None)
    assert seconds_left([*runs, unknown], jobs=1) == 1 + 3 + 10 * 2


def test_runs_beside_each_other_share_the_time_but_the_longest_takes_its_own(watched):
    runs = [watched("plain", done=5, seconds=2), watched("dtskd", done=5, seconds=2)]
    assert seconds_left(runs, jobs=2) == 10
    runs[0].end(None)
    assert seconds_left(runs, jobs=2) == 10
    runs[1].end(None)
    assert seconds_left(runs, jobs=2) == 0


def test_the_time_to_start_counts_for_runs_that_have_not_begun(watched, monkeypatch):
    now = iter((100.0, 117.0, 117.0))
    monkeypatch.setattr(several_progress, "time", SimpleNamespace(monotonic=lambda: next(now)))
    runs = [watched("plain", done=4, seconds=2), watched("dtskd"), watched("plain", seed=9)]
    runs[0].begin()
    log_epochs(runs[0].folder, 4, 10, 2)
    runs[0].end(None)
    assert runs[0].overhead == 17 - 6 * 2
    runs[1].begin()
    assert seconds_left(runs, jobs=1) == 10 * 2 + 10 * 2 + 5


def test_without_an_epoch_the_time_is_not_known(watched):
    assert seconds_left([watched("plain")], jobs=1) is None


def test_a_run_that_begins_anew_counts_from_zero_and_keeps_its_pace(watched):
    run = watched("plain", done=10, seconds=2, begins_anew=True)
    assert seconds_left([run], jobs=1) == 20
    run.look()
    assert run.count.done == 0, "the old log is still there"
    run.folder.metrics_file.unlink()
    log_epochs(run.folder, 0, 1, 4)
    run.look()
    assert seconds_left([run], jobs=1) == 9 * 4


def test_the_bar_counts_runs_and_epochs(watched, capsys):
    runs = {"a": watched("plain", done=4), "b": watched("dtskd")}
    with SeveralProgress(runs, 1, show_bar=True) as progress:
        log_epochs(runs["a"].folder, 4, 6, 1)
        progress.end("a")
        log_epochs(runs["b"].folder, 0, 5, 1)
        progress.refresh()
        progress.end("b", "it failed")
    shown = capsys.readouterr().err
    assert "0/2 runs:  20%|" in shown
    assert "4/20 epochs" in shown
    assert "2/2 runs:  75%|" in shown
    assert "15/20 epochs" in shown
    assert "about 00:00 left" in shown


def test_without_a_bar_there_is_a_line_when_a_run_begins_and_when_it_ends(watched, caplog):
    caplog.set_level(logging.INFO)
    runs = {"a": watched("plain", done=4, seconds=60), "b": watched("dtskd", seed=1)}
    names = {key: run.recipe.name for key, run in runs.items()}
    with SeveralProgress(runs, 1, show_bar=False) as progress:
        progress.begin("a")
        progress.refresh()
        progress.end("a")
        progress.begin("b")
        progress.end("b", "the disk is full")
    assert [record.message for record in caplog.records] == [
        f"{names['a']} seed 0 continues after epoch 4; 0/2 runs, about 16:00 left",
        f"{names['a']} seed 0 is finished; 1/2 runs, about 10:00 left",
        f"{names['b']} seed 1 begins; 1/2 runs, about 10:00 left",
        f"{names['b']} seed 1 is not finished: the disk is full",
    ]
