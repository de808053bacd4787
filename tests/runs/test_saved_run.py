"""A run's method comes back from what the run noted, wherever its data is by then."""

import json

import pytest
import torch

from accuracies import accuracies
from image_sets import write_folder
from selfkd.cli import main
from selfkd.contract import DatasetInfo, Needs
from selfkd.errors import CheckpointError, DataError, OptionError, RunError, UserError
from selfkd.methods.plain import Plain
from selfkd.runs.build import Experiment
from selfkd.runs.data_record import dataset_of
from selfkd.runs.evaluate import evaluate
from selfkd.runs.export import export_run
from selfkd.runs.loading import load_method
from selfkd.runs.records import write_json
from selfkd.runs.train import run
from selfkd.training.checkpoint_content import load_weights
from selfkd.training.checkpoint_files import weights_file


@pytest.fixture
def images(tmp_path):
    """Three digits as files, `<root>/train` and `<root>/test`."""
    for split, count, start in (("train", 6, 0), ("test", 2, 6)):
        write_folder(tmp_path / "images" / split, count, digits=range(3), start=start)
    return tmp_path / "images"


@pytest.fixture
def trained(short, images, tmp_path):
    """`trained(method, **overrides)`: the folder of a run on image files."""

    def train(method, **overrides):
        options = {"data": "folder", "data.root": str(images), "data.image_size": 16, "backbone.width": 4}
        options |= {"trainer.epochs": 1, "loader.workers": 0}
        recipe = short("plain", method=method, name="images", **{**options, **overrides})
        return run(recipe, tmp_path / "runs", show_progress=False)

    return train


def logits_of(method):
    batch = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return method.eval().predict(batch)


def expected_logits(folder):
    """Of the last and the best weights, in the method as training builds it."""
    method, logits = Experiment.build(folder.recipe()).method, {}
    for which in ("last", "best"):
        load_weights(method, weights_file(folder.checkpoints, which), "method.")
        logits[which] = logits_of(method)
    return logits


@pytest.mark.parametrize("name", ["teskd", "loth"])
def test_a_method_comes_back_without_its_data(trained, images, tmp_path, capsys, name):
    folder = trained(name, **{"trainer.epochs": 2})
    expected = expected_logits(folder)
    image = next((images / "test" / "digit 0").iterdir()).rename(tmp_path / "image.png")
    moved = images.rename(tmp_path / "elsewhere")
    for which in ("last", "best"):
        method = load_method(folder.path, which)
        assert not method.training
        logits = logits_of(method)
        assert list(logits) == list(expected[which])
        assert all(torch.equal(logits[head], values) for head, values in expected[which].items())
        assert "main" in method.exits()
    assert export_run(folder.path, "best")[1] <= 1e-6
    assert main(["predict", str(folder.path), str(image)]) == 0
    assert "digit" in capsys.readouterr().out
    with pytest.raises(DataError, match=r"data.root='.*images' is not a folder"):
        evaluate(folder.path)
    image.rename(moved / "test" / "digit 0" / image.name)
    scores = folder.scores()["last"]["scores"]["test"]
    assert accuracies(folder.path, data_root=moved) == scores


def test_the_description_of_the_training_set_is_recorded(trained):
    folder = trained("plain")
    names = ("digit 0", "digit 1", "digit 2")
    assert dataset_of(folder, (3, 16, 16)) == DatasetInfo(18, 3, names, None, (3, 16, 16))
    assert dataset_of(folder, (3, 16, 16)) == Experiment.build(folder.recipe()).dataset
    assert set(json.loads(folder.data_file.read_text())) == {
        "fingerprint",
        "test_fingerprint",
        "class_names",
        "num_samples",
        "input_size",
        "selfkd_version",
    }


class Balanced(Plain):
    """Has a weight for each class."""

    needs = Needs(labels=True)

    def __init__(self, backbone, data):
        super().__init__(backbone, data)
        self.counts = [data.labels.count(label) for label in range(data.num_classes)]


def test_the_labels_are_recorded_for_a_method_that_needs_them(trained, images, tmp_path):
    for split in ("train", "test"):
        write_folder(images / split, 4, digits=[3], start=2)
    folder = trained(f"{__name__}:Balanced")
    images.rename(tmp_path / "elsewhere")
    method = load_method(folder.path, trust_imports=True)
    assert method.counts == [6, 6, 6, 4]


def test_labels_that_are_not_recorded_come_from_the_data(trained, images):
    folder = trained(f"{__name__}:Balanced")
    recorded_by_an_older_version(folder)
    with pytest.raises(
        RunError, match=r"does not hold the labels of its 18 training images, which its method .*:Balanced"
    ):
        load_method(folder.path, trust_imports=True)
    scores = folder.scores()["last"]["scores"]["test"]
    assert accuracies(folder.path, trust_imports=True) == scores
    next((images / "train" / "digit 0").iterdir()).unlink()
    with pytest.raises(RunError, match="does not hold the labels of its 18 training images"):
        evaluate(folder.path, trust_imports=True)


class Undeclared(Plain):
    """Reads the labels and does not say so."""

    def __init__(self, backbone, data):
        super().__init__(backbone, data)
        self.counts = [data.labels.count(label) for label in range(data.num_classes)]


def test_a_method_that_does_not_declare_the_labels_gets_none_in_training_either(trained, tmp_path):
    with pytest.raises(UserError, match=r"method '.*:Undeclared' raised AttributeError: 'NoneType' .*test_saved_run"):
        trained(f"{__name__}:Undeclared")
    assert not (tmp_path / "runs").exists()


def test_images_of_other_splits_are_not_decoded_for_an_evaluation(trained, images, caplog):
    folder = trained("plain")
    scores = folder.scores()["last"]["scores"]["test"]
    spoilt = next((images / "train" / "digit 0").iterdir())
    spoilt.write_bytes(b"damaged")
    assert accuracies(folder.path) == scores
    assert "was trained on other data" in caplog.text
    with pytest.raises(DataError, match=f"{spoilt.name}: not a readable image"):
        evaluate(folder.path, "train", "last")


def recorded_by_an_older_version(folder, *, classes=True):
    """Of its data only a fingerprint and, later, the names of the classes."""
    noted = json.loads(folder.data_file.read_text())
    write_json(folder.data_file, {key: noted[key] for key in ("fingerprint", *(["class_names"] if classes else []))})


@pytest.mark.parametrize(("classes", "lacking"), [(True, ()), (False, ("splits",))])
def test_a_finished_run_of_an_older_version_says_it_in_its_scores(finished, classes, lacking):
    expected = load_method(finished.path).state_dict()
    told = dataset_of(finished, (3, 16, 16))
    recorded_by_an_older_version(finished, classes=classes)
    scores = json.loads(finished.scores_file.read_text())
    selection = {key: scores["selection"][key] for key in ("rule", "after_epoch")}
    older = {**{key: scores[key] for key in scores if key not in lacking}, "selection": selection}
    write_json(finished.scores_file, older)
    assert dataset_of(finished, (3, 16, 16)) == told
    method = load_method(finished.path)
    assert all(torch.equal(value, expected[key]) for key, value in method.state_dict().items())
    assert accuracies(finished.path) == finished.scores()["last"]["scores"]["test"]


def test_an_unfinished_run_of_an_older_version_is_evaluated_and_continued_with_its_data(unfinished):
    expected = accuracies(unfinished.path)
    recorded_by_an_older_version(unfinished)
    with pytest.raises(RunError, match="does not say yet what it was trained on; an older version of selfkd left it"):
        load_method(unfinished.path)
    assert accuracies(unfinished.path) == expected
    run(unfinished.recipe(), unfinished.path.parents[1], show_progress=False)
    assert load_method(unfinished.path) is not None
    assert dataset_of(unfinished, (3, 16, 16)).num_samples == 100


def test_an_unfinished_run_gives_its_newest_checkpoint(unfinished, caplog):
    method = load_method(unfinished.path)
    assert "2 of 3 epochs are done; the weights after epoch 2 are used" in caplog.text
    weights = torch.load(weights_file(unfinished.checkpoints, "last"), weights_only=True)["state_dict"]
    assert all(torch.equal(value, weights[f"method.{key}"]) for key, value in method.state_dict().items())


def test_weights_are_those_of_the_last_or_the_best_epoch(finished):
    with pytest.raises(OptionError, match="checkpoint='first' is not allowed; checkpoint must be"):
        load_method(finished.path, "first")


def test_a_method_needs_a_whole_checkpoint(finished):
    for file in finished.checkpoints.rglob("training.ckpt"):
        file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="training.ckpt is damaged"):
        load_method(finished.path)


@pytest.mark.parametrize(
    "changed",
    [
        {"num_samples": 0},
        {"num_samples": 10**15},
        {"num_samples": "100"},
        {"input_size": [3, 16]},
        {"input_size": [3, 32, 32]},
        {"input_size": [3, 10**23, 10**23]},
        {"input_size": None},
        {"class_names": ["0"]},
        {"labels": [0, 1]},
        {"labels": ["0"] * 100},
        {"labels": [10] * 100},
    ],
    ids=str,
)
def test_a_damaged_data_record_is_named_if_no_scores_replace_it(finished, unfinished, changed):
    told = dataset_of(finished, (3, 16, 16))
    for folder in (finished, unfinished):
        write_json(folder.data_file, {**json.loads(folder.data_file.read_text()), **changed})
    assert dataset_of(finished, (3, 16, 16)) == told
    with pytest.raises(RunError, match=r"data.json is damaged: (it says|its (input_size|class_names|labels)) "):
        load_method(unfinished.path)


@pytest.mark.parametrize("images", [0, 10**15])
@pytest.mark.parametrize("noted_of", ["split", "score"])
def test_damaged_scores_are_named_where_nothing_else_says_how_many_images_there_were(finished, images, noted_of):
    recorded_by_an_older_version(finished)
    scores = json.loads(finished.scores_file.read_text())
    if noted_of == "split":
        scores["splits"]["train"]["images"] = images
    else:
        del scores["splits"]
        scores["last"]["scores"]["train"]["main"]["top1"]["n"] = images
    write_json(finished.scores_file, scores)
    with pytest.raises(RunError, match=f"scores.json is damaged: it says that the training set had {images} images"):
        load_method(finished.path)
