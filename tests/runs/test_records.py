import json
import os

import pytest

from selfkd.errors import (
    RunError,
)
from selfkd.runs.data_record import class_names_of
from selfkd.runs.loading import SavedRun
from selfkd.runs.records import read_json, write_json
from selfkd.runs.run_folder import RunFolder


@pytest.mark.parametrize(
    "content",
    [
        "",
        "null",
        "[]",
        "{}",
        "[" * 5000,
        '{"last": {"epoch": 3}}',
        lambda scores: {**scores, "last": {"epoch": 3, "scores": []}},
        lambda scores: {**scores, "last": {"epoch": 3, "scores": {"test": {"main": {"top1": {"value": "much"}}}}}},
        lambda scores: {**scores, "seconds": None},
    ],
)
def test_damaged_scores_are_named(finished, content):
    if callable(content):
        content = json.dumps(content(json.loads(finished.scores_file.read_text())))
    finished.scores_file.write_text(content)
    with pytest.raises(RunError, match=r"scores.json (is damaged|cannot be read)"):
        finished.scores()


@pytest.mark.parametrize("content", ["[]", '{"class_names": "0123456789"}', '{"class_names": [1, 2]}', "{"])
def test_a_damaged_data_record_is_named_if_no_other_file_has_the_classes(finished, content):
    finished.data_file.write_text(content)
    assert class_names_of(finished) == tuple("0123456789")
    finished.scores_file.unlink()
    with pytest.raises(RunError, match=r"data.json (is damaged|cannot be read)"):
        class_names_of(finished)


def test_a_pipe_in_the_place_of_a_record_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "data.json")
    with pytest.raises(RunError, match=r"data\.json cannot be read: it is not a file"):
        read_json(tmp_path / "data.json")


def test_scores_of_older_and_newer_versions_are_read(finished):
    scores = json.loads(finished.scores_file.read_text())
    older = {key: scores[key] for key in scores if key not in ("own_best", "class_names", "splits")}
    for content in (older, {**scores, "newer": 1}):
        write_json(finished.scores_file, content)
        assert finished.scores() == content


def test_scores_of_any_task_are_read(finished):
    """A run's reader knows neither heads nor metrics nor units."""
    scores = json.loads(finished.scores_file.read_text())
    boxes = {"test": {"boxes": {"mean_average_precision": {"value": 41.2, "unit": "%", "n": 30}}}}
    error = {"test": {"distance": {"mean_error": {"value": 0.25, "unit": "mm", "n": 30}}}}
    other = {
        **scores,
        "selection": {"rule": "best-on-test", "after_epoch": 0, "metric": "mean_error", "higher_is_better": False},
        "last": {"epoch": 3, "scores": boxes},
        "best": {"epoch": 2, "scores": error},
    }
    write_json(finished.scores_file, other)
    assert finished.scores() == other


def test_class_names_of_older_runs_stand_in_their_scores(finished):
    write_json(finished.data_file, {"fingerprint": "x"})
    assert class_names_of(finished) == tuple("0123456789")
    finished.scores_file.unlink()
    with pytest.raises(RunError, match="does not say yet which classes it has"):
        _ = SavedRun.open(finished.path).class_names


@pytest.mark.parametrize("path", ["x" * 300, "\0", "nowhere"])
def test_a_path_without_a_run_is_refused(tmp_path, path):
    with pytest.raises(RunError):
        RunFolder.existing(tmp_path / path)
