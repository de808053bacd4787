import pytest
import torch
from short_runs import trained

import selfkd
from selfkd.errors import RunError, StorageError
from selfkd.evaluation.evaluation import measure_split
from selfkd.runs import evaluate, kept_predictions
from selfkd.runs.evaluate import predict_split
from selfkd.runs.kept_predictions import read_predictions
from selfkd.runs.records import read_record, write_json
from selfkd.runs.run_folder import RunFolder
from selfkd.runs.train import run


@pytest.fixture
def kept(finished):
    """A finished run with the logits of its test images, and its evaluation."""
    return finished, selfkd.evaluate(finished.path, keep_logits=True)


def test_kept_logits_give_the_scores_again(kept):
    folder, evaluation = kept
    predictions = read_predictions(folder, "test", "last")
    assert list(predictions.logits) == ["main", "branch1", "branch2", "branch3"], "the ensemble follows from these"
    assert torch.equal(predictions.indices, torch.arange(1697))
    assert measure_split(predictions.in_batches(), 10).scores == evaluation.scores


def test_a_later_evaluation_leaves_them(kept):
    folder, _ = kept
    selfkd.evaluate(folder.path)
    assert read_predictions(folder, "test", "last") is not None


def test_predictions_are_those_that_were_kept_without_a_pass_and_without_the_data(kept, monkeypatch):
    folder, evaluation = kept
    monkeypatch.setattr(evaluate, "collect", None)
    assert selfkd.evaluate(folder.path, keep_logits=True) == evaluation
    monkeypatch.setattr(evaluate.Source, "load", None)
    assert len(predict_split(folder.path)) == 1697


def test_predictions_that_were_not_kept_are_made_and_kept(finished):
    made, kept = predict_split(finished.path, "train"), read_predictions(finished, "train", "last")
    assert all(torch.equal(rows, kept.logits[head]) for head, rows in made.logits.items())
    assert not finished.evaluation_file("train", "last").exists(), "no metric was asked for"


def test_a_training_keeps_the_predictions_of_the_pass_that_gives_its_scores(short, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "collect", None)
    folder = trained(short(**{"trainer.epochs": 2}), tmp_path, keep_logits=True)
    predictions = read_predictions(folder, "test", "last")
    assert torch.equal(predictions.indices, torch.arange(1697))
    measured = measure_split(predictions.in_batches(), 10).scores
    for head, scores in folder.scores()["last"]["scores"]["test"].items():
        assert {name: measured[head][name]["value"] for name in scores} == pytest.approx(
            {name: score["value"] for name, score in scores.items()}
        )
    assert not folder.evaluation_file("test", "last").exists(), "no other metric was asked for"
    assert not folder.predictions_file("test", "best").exists()


def test_a_finished_run_without_predictions_predicts_once(finished, monkeypatch):
    recipe, runs = finished.recipe(), finished.path.parents[1]
    run(recipe, runs, show_progress=False)
    assert read_predictions(finished, "test", "last") is None
    run(recipe, runs, show_progress=False, keep_logits=True)
    assert len(read_predictions(finished, "test", "last")) == 1697
    monkeypatch.setattr(evaluate, "collect", None)
    run(recipe, runs, show_progress=False, keep_logits=True)


def test_a_training_ends_without_predictions_if_memory_is_short(short, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(evaluate, "free_main_memory", lambda: 1000)
    folder = trained(short("plain", **{"trainer.epochs": 1}), tmp_path, keep_logits=True)
    assert folder.is_finished
    assert not folder.predictions_file("test", "last").exists()
    assert "take 0.000136 GB of memory, and 1e-06 GB are free; they are not kept" in caplog.text


def test_in_a_folder_that_cannot_be_written_predictions_are_made_but_the_option_to_keep_them_fails(finished, caplog):
    (finished.path / "evaluation").write_text("a file where a folder should be")
    assert len(predict_split(finished.path)) == 1697
    assert "the logits are not kept" in caplog.text
    with pytest.raises(StorageError, match="test-last.safetensors"):
        selfkd.evaluate(finished.path, keep_logits=True)


def test_what_was_not_kept_is_none(kept):
    folder, _ = kept
    assert read_predictions(folder, "train", "last") is None
    assert read_predictions(folder, "test", "best") is None


def test_logits_of_other_weights_or_other_data_count_as_not_kept(kept):
    folder, _ = kept
    record = read_record(folder.data_file)
    write_json(folder.data_file, {**record, "fingerprint": "content-1:0"})
    assert read_predictions(folder, "test", "last") is None
    write_json(folder.data_file, record)
    assert read_predictions(folder, "test", "last") is not None
    folder.checkpoints.rename(folder.path / "away")
    assert read_predictions(folder, "test", "last") is None, "nothing proves that they belong to the run's weights"


def test_logits_of_an_unfinished_run_are_stale_once_it_is_continued(unfinished):
    selfkd.evaluate(unfinished.path, keep_logits=True)
    assert read_predictions(unfinished, "test", "last") is not None
    run(unfinished.recipe(), unfinished.path.parents[1], show_progress=False)
    assert read_predictions(unfinished, "test", "last") is None


@pytest.mark.parametrize("step", ["measure_split", "keep_predictions"])
def test_logits_count_as_not_kept_if_the_run_was_trained_further_meanwhile(unfinished, monkeypatch, step):
    original = getattr(evaluate, step)

    def training_meanwhile(*given):
        run(unfinished.recipe(), unfinished.path.parents[1], show_progress=False)
        return original(*given)

    monkeypatch.setattr(evaluate, step, training_meanwhile)
    assert selfkd.evaluate(unfinished.path, keep_logits=True).epoch == 2
    assert read_predictions(unfinished, "test", "last") is None


def test_logits_of_a_run_that_is_being_trained_are_refused_before_the_evaluation(unfinished):
    with unfinished.locked():
        with pytest.raises(RunError, match="is being trained, so its logits are not kept; leave out --keep-logits"):
            selfkd.evaluate(unfinished.path, keep_logits=True)
        assert not unfinished.evaluation_file("test", "last").exists()
        assert selfkd.evaluate(unfinished.path).epoch == 2, "its scores need no logits"


def test_weights_that_are_replaced_while_logits_are_read_count_as_lost(kept, monkeypatch):
    folder, _ = kept
    find = kept_predictions.weights_file

    def lost(*given):
        file = find(*given)
        file.unlink()
        return file

    monkeypatch.setattr(kept_predictions, "weights_file", lost)
    assert read_predictions(folder, "test", "last") is None


@pytest.mark.parametrize("spoil", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"{" + data])
def test_a_damaged_file_is_named(kept, spoil):
    folder, _ = kept
    file = folder.predictions_file("test", "last")
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(
        RunError, match=r"test-last.safetensors is damaged: .*; delete it, or evaluate again with --keep"
    ):
        read_predictions(folder, "test", "last")
    assert len(predict_split(folder.path)) == len(read_predictions(folder, "test", "last")) == 1697, "written again"


def test_logits_of_other_data_are_not_kept(finished):
    record = read_record(finished.data_file)
    write_json(finished.data_file, {**record, "fingerprint": "content-1:0"})
    with pytest.raises(RunError, match="was trained on other data, so the logits are not kept beside its scores"):
        selfkd.evaluate(finished.path, keep_logits=True)
    assert selfkd.evaluate(finished.path).images == 1697
    assert not (finished.path / "evaluation").exists(), "nor the scores of other data"


def test_overwriting_deletes_evaluations_and_logits(kept):
    folder, _ = kept
    again = run(folder.recipe(), folder.path.parents[1], overwrite=True, show_progress=False)
    assert again == RunFolder(folder.path)
    assert not (folder.path / "evaluation").exists()
