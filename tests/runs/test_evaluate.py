import pytest
from short_runs import trained

from image_sets import write_folder
from selfkd.errors import (
    RunError,
)
from selfkd.runs.evaluate import evaluate_run


def test_evaluating_a_run_gives_its_scores(short, tmp_path):
    folder = trained(short(), tmp_path)
    for which in ("last", "best"):
        for split in ("test", "train"):
            assert evaluate_run(folder.path, split, which, {}) == folder.scores()[which]["scores"][split]
    with pytest.raises(RunError, match="has no validation split, because data.validation_fraction was 0"):
        evaluate_run(folder.path, "validation", "last", {})


def test_evaluating_on_data_of_other_classes_says_so(photographed, tmp_path):
    write_folder(tmp_path / "two" / "train", 6, digits=range(2))
    write_folder(tmp_path / "two" / "test", 2, digits=range(2), start=6)
    folder = trained(photographed(tmp_path / "three"), tmp_path)
    with pytest.raises(RunError, match="was trained on 3 classes; data.root gives 2"):
        evaluate_run(folder.path, "test", "last", {"data.root": str(tmp_path / "two")})
