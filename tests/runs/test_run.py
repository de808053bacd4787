"""`Run`: what a Python user has of a run."""

import math
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torchvision.transforms.v2 import functional as transforms

import selfkd
from image_sets import digit
from selfkd.errors import (
    CheckpointError,
    DataError,
    OptionError,
    RecipeError,
    RunError,
    UnreadableImageError,
    UserError,
)
from selfkd.runs.run import Run


@pytest.fixture
def run(finished):
    return Run.open(finished.path)


@pytest.fixture
def photos(tmp_path):
    """Three digits in a folder and its sub-folder."""
    for name, position in {"0.png": 0, "1.png": 1, "more/2.png": 2}.items():
        file = tmp_path / "photos" / name
        file.parent.mkdir(exist_ok=True, parents=True)
        digit(position).save(file)
    return tmp_path / "photos"


def test_a_run_says_what_it_trained_and_how_well(run, finished):
    assert run.path == finished.path
    assert repr(run) == f"Run('{finished.path}')"
    assert run.is_finished
    assert run.recipe == finished.recipe()
    assert run.scores == finished.scores()
    assert run.class_names == tuple("0123456789")
    assert run.transform(digit(0)).shape == run.input_size == (3, 16, 16)
    assert not run.network.training
    assert run.network is run.network, "loaded once"
    assert torch.equal(run.network.fc.weight, load_file(finished.network_file)["fc.weight"])


def test_metrics_are_a_data_frame_or_columns(run, finished, monkeypatch):
    pandas = pytest.importorskip("pandas")
    frame = run.metrics
    assert isinstance(frame, pandas.DataFrame)
    assert frame["epoch"].tolist() == [1, 2, 3]
    assert frame["epoch"].dtype == np.int64
    monkeypatch.setitem(sys.modules, "pandas", None)  # as if it were not installed
    columns = run.metrics
    assert columns["epoch"] == [1, 2, 3]
    assert columns == frame.to_dict("list")
    assert columns["test/top1/main"][-1] == run.scores["last"]["scores"]["test"]["main"]["top1"]["value"]
    finished.metrics_file.write_text("epoch,train/loss\n1,?\n")
    with pytest.raises(CheckpointError, match=r"metrics\.csv is damaged"):
        _ = run.metrics


def test_an_epoch_without_an_evaluation_has_nan(short, tmp_path, monkeypatch):
    recipe = short("plain", **{"trainer.epochs": 2, "trainer.evaluate_every": 2, "backbone.width": 4})
    monkeypatch.setitem(sys.modules, "pandas", None)
    first, second = selfkd.train(recipe, runs=tmp_path, show_progress=False).metrics["test/top1/main"]
    assert math.isnan(first)
    assert 0 <= second <= 100


def test_one_image_gives_one_prediction_and_several_give_a_list(run, photos, monkeypatch):
    predict = partial(run.predict, batch_size=1)  # the size of a batch changes the last digits
    first = predict(photos / "0.png", top=3)
    assert first.image == str(photos / "0.png")
    assert (first.label, first.probability) == (first.classes[0].label, first.classes[0].probability)
    assert len(first.classes) == 3
    whole = predict(str(photos))
    assert [Path(each.image).name for each in whole] == ["0.png", "1.png", "2.png"]
    assert predict(str(photos / "**" / "*.png")) == whole
    assert predict([photos / "more", photos / "0.png"]) == [whole[2], whole[0]]
    monkeypatch.setenv("HOME", str(photos.parent))
    assert predict("~/photos/1.png") == whole[1]
    assert predict("~/photos") == whole
    assert predict([]) == []


def test_images_without_a_file_are_labelled_as_their_files(run, photos):
    predict = partial(run.predict, top=2, batch_size=1)
    expected = [each.classes for each in predict(photos)]
    opened = [digit(position).convert("RGB") for position in range(3)]
    assert predict(opened[0]) == selfkd.Prediction(None, expected[0])
    assert [each.classes for each in predict(opened)] == expected
    pixels = torch.stack([transforms.pil_to_tensor(image) for image in opened])
    assert predict(pixels[1]).classes == expected[1]
    assert [each.classes for each in predict(pixels)] == expected
    inputs = torch.stack([run.transform(image) for image in opened])
    assert [each.classes for each in predict(inputs)] == expected
    mixed = predict([opened[0], str(photos / "1.png"), inputs[2], pixels])
    assert [each.classes for each in mixed] == [*expected, *expected]
    assert [each.image is None for each in mixed] == [True, False, True, True, True, True]


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (5, UserError, "an object of type int is not an image; give paths, PIL images, or tensors"),
        ([None], UserError, "an object of type NoneType is not an image"),
        (np.zeros((8, 8, 3), np.uint8), UserError, r"type ndarray is not an image; .*PIL\.Image\.fromarray"),
        (torch.zeros(8, 8), UserError, r"a tensor \[8, 8\] is not an image"),
        (torch.zeros(3, 8, 8), UserError, r"a tensor \[3, 8, 8\] of torch.float32 .* floating tensor \[3, 16, 16\]"),
        (torch.zeros(2, 8, 8, dtype=torch.uint8), UserError, r"give a uint8 tensor \[1 or 3, H, W\]"),
        ("nowhere.png", DataError, r"^nowhere\.png: there is no such file or folder$"),
        ("*.nothing", DataError, "no file matches this pattern"),
        (Image.new("F", (4, 4)), DataError, "a PIL image: not readable as an image: its pixels are floating-point"),
    ],
)
def test_what_is_no_image_is_named(run, images, error, message):
    with pytest.raises(error, match=message):
        run.predict(images)


def test_a_wrong_number_of_classes_is_refused(run, photos):
    with pytest.raises(OptionError, match="^top=11 is not allowed"):
        run.predict(photos, top=11)


def test_bad_images_are_reported_and_the_others_are_labelled(run, photos):
    (photos / "1.png").write_bytes(b"text")
    problems = []
    names = [str(photos), str(photos / "*.tif")]
    assert len(list(run.predict_each(names, report=problems.append))) == 2
    assert [type(each) for each in problems] == [DataError, UnreadableImageError]


def test_any_number_of_predictions_of_one_image(run, photos):
    for one in (photos / "0.png", str(photos / "0.png"), digit(0), run.transform(digit(0))):
        (prediction,) = run.predict_each(one)
        assert prediction == run.predict(one)
    assert [each.image for each in run.predict_each(str(photos))] == [each.image for each in run.predict(photos)]
    assert list(run.predict_each(run.transform(digit(0))[None])) == run.predict([digit(0)])


def test_an_unfinished_run_is_used_as_far_as_it_is(unfinished, photos, caplog):
    run = selfkd.load(unfinished.path)
    assert "the weights after epoch 2 are used" in caplog.text
    assert not run.is_finished
    assert list(run.metrics["epoch"]) == [1, 2]
    assert run.predict(photos / "0.png").label in run.class_names
    with pytest.raises(RunError, match="has no scores yet, because it is not finished; train it to its end"):
        _ = run.scores


def test_damage_shows_when_a_run_is_loaded_and_not_when_it_is_opened(finished):
    for file in [finished.network_file, *finished.checkpoints.rglob("*")]:
        if file.is_file():
            file.write_bytes(b"damaged")
    run = Run.open(finished.path)
    assert run.scores["seed"] == run.recipe.seed
    with pytest.raises(CheckpointError):
        _ = run.network
    with pytest.raises(CheckpointError):
        selfkd.load(finished.path)


def test_evaluate_is_that_of_the_run(run, finished):
    evaluation = run.evaluate("train", "best", loader_evaluation_batch_size=40)
    assert evaluation == selfkd.evaluate(finished.path, "train", "best")
    assert finished.evaluation_file("train", "best").is_file()
    with pytest.raises(UserError, match=r"trainer\.epochs cannot change in a run that exists"):
        run.evaluate(trainer_epochs=3)


@pytest.mark.parametrize("option", ["backbone.weights", "peer.weights", "teacher.backbone.weights"])
def test_a_run_that_exists_takes_no_file_of_weights(run, option):
    # An option `weights` of the user's own network is of the experiment, and ours is read before the first epoch alone.
    with pytest.raises(
        RecipeError, match=rf"^{option} cannot change in a run that exists; only data\.download, "
    ) as said:
        run.evaluate(**{option: "other"})
    assert "weights" not in str(said.value).removeprefix(option)
    with pytest.raises(RecipeError, match=f"^{option} cannot change in runs that exist"):
        selfkd.compare_runs(run, **{option: "other"})


def test_export_gives_the_file(run, tmp_path):
    assert run.export(checkpoint="best") == run.path / "export" / "best.safetensors"
    file = run.export(str(tmp_path / "network.safetensors"))
    assert torch.equal(load_file(file)["fc.weight"], run.network.fc.weight)
    with pytest.raises(OptionError, match="a file that does not exist yet"):
        run.export(file)
    assert run.export(file, overwrite=True) == file
    with pytest.raises(OptionError, match="format='onnx' is not allowed; format must be one of safetensors"):
        run.export(format="onnx")
    with pytest.raises(OptionError, match="checkpoint='first' is not allowed"):
        run.export(checkpoint="first")


def test_the_network_of_the_best_epoch(finished, photos):
    run = selfkd.load(finished.path, "best")
    exported = load_file(run.export(checkpoint="best"))
    assert all(torch.equal(weight, exported[name]) for name, weight in run.network.state_dict().items())
    with torch.no_grad():
        expected = run.network(run.transform(Image.open(photos / "0.png"))[None]).softmax(dim=1).max()
    assert run.predict(photos / "0.png").probability == pytest.approx(float(expected))
    with pytest.raises(OptionError, match="checkpoint='worst' is not allowed"):
        selfkd.load(finished.path, "worst")
