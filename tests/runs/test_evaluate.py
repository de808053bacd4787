import dataclasses
import json
import logging
import shutil

import pytest
import torch
from PIL import Image
from short_runs import trained

import selfkd
from accuracies import accuracies
from image_sets import write_folder
from selfkd.errors import DataError, OptionError, RunError
from selfkd.evaluation.split_metrics import SPLIT_METRICS
from selfkd.json_text import to_json
from selfkd.reports.evaluation_report import evaluation_report, evaluation_reports
from selfkd.runs import evaluate as evaluation_module
from selfkd.runs.evaluate import evaluate


def test_evaluating_a_run_gives_its_scores(short, tmp_path):
    folder = trained(short(), tmp_path)
    for which in ("last", "best"):
        for split in ("test", "train"):
            assert accuracies(folder.path, split, which) == folder.scores()[which]["scores"][split]
    with pytest.raises(RunError, match="has no validation split, because data.validation_fraction was 0"):
        evaluate(folder.path, "validation")


def test_evaluating_on_data_of_other_classes_says_so(photographed, tmp_path):
    write_folder(tmp_path / "two" / "train", 6, digits=range(2))
    write_folder(tmp_path / "two" / "test", 2, digits=range(2), start=6)
    folder = trained(photographed(tmp_path / "three"), tmp_path)
    with pytest.raises(RunError, match="was trained on 3 classes; data.root gives 2"):
        evaluate(folder.path, overrides={"data.root": str(tmp_path / "two")})


def test_an_evaluation_holds_every_head_and_lies_in_the_run(finished):
    evaluation = selfkd.evaluate(finished.path)
    assert evaluation.images == 1697
    assert evaluation.epoch == 3
    assert evaluation.ensemble == ("main", "branch1", "branch2", "branch3")
    assert list(evaluation.scores) == [*evaluation.ensemble, "ensemble"]
    for metrics in evaluation.scores.values():
        assert list(metrics) == list(SPLIT_METRICS)
    labels, predicted = evaluation.images_per_class, evaluation.confusion
    assert tuple(map(sum, predicted)) == labels
    right = sum(row[label] for label, row in enumerate(predicted))
    assert evaluation.scores["main"]["top1"]["value"] == pytest.approx(100 * right / 1697, abs=1e-4)
    assert evaluation.agreement["main"]["main"] == 100
    written = json.loads((finished.path / "evaluation" / "test-last.json").read_text())
    assert written == json.loads(to_json(evaluation.as_dict()))
    assert selfkd.evaluate(finished.path) == evaluation, "the same again"
    with pytest.raises(dataclasses.FrozenInstanceError):
        evaluation.epoch = 1


def test_a_run_that_cannot_be_written_is_evaluated_and_the_log_says_that_nothing_is_kept(finished, caplog):
    (finished.path / "evaluation").write_text("a file where a folder should be")
    assert selfkd.evaluate(finished.path).images == 1697
    assert "evaluation/test-last.json cannot be written" in caplog.text
    assert "the evaluation is not kept" in caplog.text


def test_logits_in_memory_and_logits_in_passing_give_the_same(finished):
    in_passing = selfkd.evaluate(finished.path, loader_evaluation_batch_size=300)
    kept = selfkd.evaluate(finished.path, keep_logits=True)
    for head, metrics in in_passing.scores.items():
        for name, score in metrics.items():
            assert score["value"] == pytest.approx(kept.scores[head][name]["value"], abs=1e-4)
            assert score["interval"] == pytest.approx(kept.scores[head][name]["interval"], abs=1e-4)


def test_too_little_memory_for_logits_is_refused_with_the_number(finished, monkeypatch):
    monkeypatch.setattr(evaluation_module, "free_main_memory", lambda: 100_000)
    said = (
        r"keep_logits=True is not allowed; the logits of 1697 images x 10 classes x 4 heads take 0.000543 GB of "
        r"memory, and 0.0001 GB are free; leave the option out"
    )
    with pytest.raises(OptionError, match=said):
        selfkd.evaluate(finished.path, keep_logits=True)
    assert selfkd.evaluate(finished.path).images == 1697, "without the option no logits are kept in memory"


def test_a_temperature_is_fitted_on_the_validation_split(short, tmp_path):
    folder = trained(short("plain", **{"data.train_per_class": 20, "data.validation_fraction": 0.3}), tmp_path)
    plain = selfkd.evaluate(folder.path)
    assert plain.temperature is None
    assert plain.ensemble == ()
    scaled = selfkd.evaluate(folder.path, temperature=True)
    scaling = scaled.temperature
    assert (scaling.fitted_on, scaling.fitted_images) == ("the validation split", 60)
    assert (scaling.measured_on, scaling.measured_images) == ("the test split", scaled.images)
    assert scaling.before == scaled.scores
    assert scaled.scores["main"]["top1"] == plain.scores["main"]["top1"]
    own = selfkd.evaluate(folder.path, "validation", temperature=True).temperature
    assert own.fitted_images == own.measured_images == 30, "never on the images that it is measured on"


def test_without_another_split_a_temperature_is_fitted_on_one_half_and_measured_on_the_other(finished):
    evaluation = selfkd.evaluate(finished.path, temperature=True)
    scaling = evaluation.temperature
    assert evaluation.images == 1697, "the scores without temperature are those of all images"
    assert scaling.fitted_on == "half of the test split, drawn by seed 0"
    assert (scaling.fitted_images, scaling.measured_images) == (848, 849)
    assert scaling.before["main"]["top1"]["n"] == 849
    assert scaling.after["main"]["top1"] == scaling.before["main"]["top1"]
    assert selfkd.evaluate(finished.path, temperature=True).temperature == scaling


@pytest.fixture
def photographs(photographed, tmp_path):
    """A finished run of three digits from image files; its own images are gone."""
    folder = trained(photographed(tmp_path / "three"), tmp_path)
    shutil.move(tmp_path / "three", tmp_path / "moved")
    return folder


def test_another_folder_gives_the_scores_of_the_same_images_without_the_runs_data(photographs, tmp_path):
    evaluation = selfkd.evaluate(photographs.path, data=tmp_path / "moved" / "test")
    scores = photographs.scores()["last"]["scores"]["test"]
    assert evaluation.scores["main"]["top1"]["value"] == scores["main"]["top1"]["value"]
    assert (evaluation.split, evaluation.data) == (None, str(tmp_path / "moved" / "test"))
    assert evaluation.images_per_class == (2, 2, 2)
    assert not (photographs.path / "evaluation").exists(), "the run keeps evaluations of its own splits alone"


def test_splits_in_another_folder(photographs, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "selfkd"):
        assert selfkd.evaluate(photographs.path, data=tmp_path / "moved").images == 6
    assert "holds splits; its split test is evaluated" in caplog.text


def test_a_folder_without_some_classes(photographs, tmp_path):
    evaluation = selfkd.evaluate(photographs.path, data=write_folder(tmp_path / "few", 4, digits=[1], start=8))
    assert evaluation.absent_classes == ("digit 0", "digit 2")
    accuracies_of_main = evaluation.class_accuracies["main"]
    assert accuracies_of_main == (None, evaluation.scores["main"]["top1"]["value"], None)
    one = selfkd.evaluate(photographs.path, data=write_folder(tmp_path / "one", 1, digits=[1], start=8))
    assert one.scores["main"]["nll"]["interval"] == pytest.approx((one.scores["main"]["nll"]["value"],) * 2)
    with pytest.raises(OptionError, match="it needs 2 images or more, or a validation split; there is 1 image"):
        selfkd.evaluate(photographs.path, data=tmp_path / "one", temperature=True)


def test_images_of_a_folder_get_the_size_and_the_normalisation_of_the_runs_data(finished, tmp_path):
    folder, loaded = tmp_path / "scans", selfkd.load(finished.path)
    write_folder(folder, 10, digits=range(10))
    confusion = torch.zeros(10, 10, dtype=torch.int64)
    for label in range(10):
        for file in (folder / f"digit {label}").rename(folder / str(label)).iterdir():
            with Image.open(file) as image:
                confusion[label, loaded.network(loaded.transform(image)[None]).argmax()] += 1
    evaluation = selfkd.evaluate(finished.path, data=folder)
    assert evaluation.confusion == tuple(map(tuple, confusion.tolist()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"split": "tset"},
            "split='tset' is not allowed; split must be one of test, train, validation; other images .* data='tset'",
        ),
        ({"checkpoint": "first"}, "checkpoint='first' is not allowed"),
        ({"split": "train", "data": "x"}, "split='train' is not allowed; all images of data are evaluated"),
        ({"keep_logits": True, "data": "x"}, "keep_logits=True is not allowed; a run's folder keeps"),
    ],
)
def test_wrong_options_are_named(finished, options, message):
    with pytest.raises(OptionError, match=message):
        selfkd.evaluate(finished.path, **options)


def write_table(file, folder):
    rows = [f"{image.relative_to(file.parent)},{image.parent.name}" for image in sorted(folder.rglob("*.png"))]
    file.write_text("\n".join(["path,label", *rows]))
    return file


def test_several_sets_of_images_give_one_evaluation_each(photographs, tmp_path):
    test = tmp_path / "moved" / "test"
    table = write_table(tmp_path / "test.csv", test)
    few = write_folder(tmp_path / "few", 4, digits=[1], start=8)

    class Photographs(list):
        """A Dataset that names its classes in another order than the run."""

        classes = ("digit 2", "digit 1", "digit 0")

    files = sorted(test.rglob("*.png"))
    dataset = Photographs((Image.open(file), Photographs.classes.index(file.parent.name)) for file in files)
    evaluations = selfkd.evaluate(photographs.path, data=[test, str(table), few, dataset])
    alone = [selfkd.evaluate(photographs.path, data=each) for each in (test, few)]
    assert [evaluations[0], evaluations[2]] == alone
    assert [each.data for each in evaluations] == [str(test), str(table), str(few), "Photographs"]
    for other in (evaluations[1], evaluations[3]):
        assert (other.scores, other.confusion) == (evaluations[0].scores, evaluations[0].confusion)
    assert selfkd.evaluate(photographs.path, data=[few]) == [alone[1]]
    text = evaluation_reports(evaluations)
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        f"## folder {test}",
        f"## CSV file {table}",
        f"## folder {few}",
        "## Dataset Photographs",
    ]
    assert f"6 images of the CSV file {table}" in text
    twice = selfkd.evaluate(photographs.path, data=[dataset, dataset])
    folder = few.rename(tmp_path / "Dataset few")
    assert f"of the folder {folder}" in evaluation_report(selfkd.evaluate(photographs.path, data=folder))
    headings = [line for line in evaluation_reports(twice).splitlines() if line.startswith("## ")]
    assert headings == ["## Dataset Photographs 1", "## Dataset Photographs 2"]
    with pytest.raises(DataError, match="nowhere is not a folder"):
        selfkd.evaluate(photographs.path, data=[test, tmp_path / "nowhere"])
    with pytest.raises(OptionError, match="must be one or more folders, CSV files or Datasets"):
        selfkd.evaluate(photographs.path, data=[])


def test_a_folder_of_other_classes_is_named(photographs, tmp_path):
    with pytest.raises(DataError, match=r"no class of the run \(digit 5\); the run's classes are digit 0, digit 1"):
        selfkd.evaluate(photographs.path, data=write_folder(tmp_path / "others", 1, digits=[0, 5]))


def test_threads_and_modes_are_as_before(finished):
    before = torch.get_num_threads()
    selfkd.evaluate(finished.path, trainer_threads=1)
    assert torch.get_num_threads() == before
