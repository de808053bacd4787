"""Runs that start from a file of weights: what is loaded and said, what is refused, and when the file is not needed."""

import hashlib
import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from short_runs import interrupted, trained
from torch import nn

from accuracies import accuracies
from image_sets import digit, write_folder
from real_runs import differences, outcome
from selfkd import load
from selfkd.data.sources.folder import Folder
from selfkd.errors import OptionError, RecipeError, RunError, WeightsError
from selfkd.recipes.reader import resolve
from selfkd.recipes.weights_preprocessing import normalization_origin
from selfkd.reports.compare import compare_outcomes
from selfkd.runs.build import Experiment
from selfkd.runs.evaluate import evaluate
from selfkd.runs.export import export_run
from selfkd.runs.several import train_several
from selfkd.runs.train import check_training

DEMO = "demo/digits/resnet18/plain"
SHORT = {"backbone.width": 4, "trainer.epochs": 3, "trainer.evaluate_every": 1, "data.train_per_class": 3}


def recipe(**overrides):
    return resolve(DEMO, {**SHORT, **{key.replace("__", "."): value for key, value in overrides.items()}})


def tuned(file, **overrides):
    return recipe(**{"backbone__weights": str(file), "name": "tuned", **overrides})


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A run that learnt seven of the ten digits."""
    options = {**SHORT, "trainer.epochs": 1, "name": "first", "data.classes": [0, 1, 2, 3, 4, 5, 6]}
    return trained(resolve(DEMO, options), tmp_path_factory.mktemp("first"))


@pytest.fixture
def file(first, tmp_path):
    """A copy of its network's file, which a test may change or remove."""
    return Path(shutil.copy(first.network_file, tmp_path / "seven.safetensors"))


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO, "selfkd")
    return lambda: [record.getMessage() for record in caplog.records]


def started(recipe):
    return Experiment.build(recipe).method.deployed().state_dict()


@pytest.mark.parametrize("form", ["safetensors", "pth", "ckpt"])
def test_all_but_the_classifier_of_another_size_is_loaded_and_said(first, file, tmp_path, form, said):
    weights = load_file(file)
    if form == "pth":
        file = tmp_path / "weights.pth"
        torch.save({"model": {f"module.{key}": value for key, value in weights.items()}}, file)
    elif form == "ckpt":
        file = next(first.checkpoints.glob("epoch-*/training.ckpt"))
    random, loaded = started(recipe()), started(tuned(file))
    for key, value in loaded.items():
        assert torch.equal(value, random[key] if key.startswith("fc.") else weights[key]), key
    messages = said()
    assert f"backbone.weights={file}: 120 of the network's 122 tensors are loaded" in messages
    names = " (0, 1, 2, 3, 4 and 2 more)" if form == "safetensors" else ""
    assert f"the classifier starts from random weights: {file} has 7 classes{names}, the data has 10" in messages
    assert not [message for message in messages if "lacks" in message or "without a place" in message]


def test_a_classifier_of_the_same_size_is_loaded_and_other_names_of_its_classes_are_said(file, said):
    loaded = started(tuned(file, data__classes=[3, 4, 5, 6, 7, 8, 9]))
    assert all(torch.equal(value, loaded[key]) for key, value in load_file(file).items())
    (message,) = (message for message in said() if message.startswith("the classifier"))
    assert message.endswith("whose classes have other names: 0, 1, 2, 3, 4 and 2 more")


def test_every_missing_and_unexpected_tensor_is_said(file, said):
    weights = load_file(file)
    del weights["layer1.0.bn1.weight"], weights["layer1.0.bn1.bias"]
    save_file({**weights, "extra.weight": torch.ones(2)}, file)
    random, loaded = started(recipe()), started(tuned(file))
    assert torch.equal(loaded["layer1.0.bn1.weight"], random["layer1.0.bn1.weight"])
    lacking = "lacks 2 tensors of the network's 122, so the network's first values stay"
    assert f"{file} {lacking}: layer1.0.bn1.weight, layer1.0.bn1.bias" in said()
    assert f"{file} has 1 tensor without a place in the network: extra.weight" in said()


def test_the_run_keeps_every_missing_and_unexpected_key_also_those_outside_the_prefix(file, tmp_path, said):
    weights = load_file(file)
    missing = [key for key in weights if key.startswith("layer1.0.bn")]
    around = {f"queue.{index}": torch.ones(1) for index in range(7)}
    kept = {f"encoder.{key}": value for key, value in weights.items() if key not in missing}
    torch.save({"state_dict": {**kept, **around, "encoder.extra": torch.ones(1)}}, tmp_path / "encoder.pth")
    folder = trained(tuned(tmp_path / "encoder.pth", trainer__epochs=1), tmp_path)
    record = json.loads(folder.weights_file.read_text())["backbone"]
    assert sorted(record["missing"]) == sorted(missing)
    assert len(missing) > 5, "more than the log names"
    assert record["unexpected"] == [*around, "encoder.extra"]
    assert record["sha256"] == hashlib.sha256((tmp_path / "encoder.pth").read_bytes()).hexdigest()
    (line,) = {message for message in said() if "without a place" in message}
    assert line.endswith(
        "has 8 tensors without a place in the network: queue.0, queue.1, queue.2, queue.3, queue.4 and 3 more"
    )


def without(weights, *names):
    return {key: value for key, value in weights.items() if not key.startswith(names)}


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (
            lambda weights: weights,
            {"backbone.width": 8},
            r"is a file of another network than backbone=resnet18_cifar: 100 tensors of the file cannot be loaded "
            r"\(conv1.weight is \[4, 3, 3, 3\] in the file and \[8, 3, 3, 3\] in the network, .* and 95 more\); "
            r"use the network with the options",
        ),
        (
            lambda weights: without(weights, "layer4"),
            {},
            r".*it has 2\d% of the weights before the classifier, and at least 90% are needed; it lacks 30 tensors "
            r"of the network's 122: layer4.0.conv1.weight, .* and 25 more$",
        ),
        (
            lambda weights: {f"renamed_{key}": value for key, value in weights.items()},
            {},
            r".*it has 0% of the weights .*; it has 122 tensors of other names: renamed_",
        ),
        (lambda weights: weights, {"backbone": "resnet34_cifar"}, r".*it has 5\d% of the weights"),
        (
            lambda weights: {**weights, "bn1.weight": torch.tensor([1.0, torch.nan, 1.0, 1.0])},
            {},
            "cannot be used: its tensor bn1.weight has values that are NaN or infinite",
        ),
        (
            lambda weights: {**weights, "bn1.weight": torch.ones(4, dtype=torch.int8)},
            {},
            r".*: 1 tensor of the file cannot be loaded .bn1.weight is \[4\] of torch.int8 in the file and \[4\] in",
        ),
    ],
)
def test_the_file_of_another_network_is_refused_before_anything_is_written(file, tmp_path, change, options, message):
    save_file(change(load_file(file)), file)
    with pytest.raises(WeightsError, match=rf"^backbone.weights='.*seven.safetensors' {message}"):
        trained(resolve(DEMO, {**SHORT, **options, "backbone.weights": str(file), "name": "tuned"}), tmp_path)
    assert not (tmp_path / "runs").exists()


def test_the_file_of_a_larger_network_is_refused(tmp_path):
    larger = trained(recipe(backbone="resnet34_cifar", name="larger", trainer__epochs=1), tmp_path).network_file
    message = (
        r"is a file of another network than backbone=resnet18_cifar: the network has a place for 5\d% of the file's "
        r"weights before the classifier, and at least 90% are needed; 80 tensors of the file would be left out: "
        r"layer1.2.bn1.bias, .* and 75 more; use the network that the weights were trained with$"
    )
    with pytest.raises(WeightsError, match=message):
        started(tuned(larger))


def test_modules_that_only_the_file_has_and_another_kind_of_classifier_are_no_sign_of_a_larger_network(file, said):
    body = {key: value for key, value in load_file(file).items() if not key.startswith("fc.")}
    decoder = {"decoder.0.weight": torch.ones(999, 999), "fc.0.weight": torch.ones(999, 999)}
    save_file({**body, **decoder}, file)
    assert torch.equal(started(tuned(file))["conv1.weight"], body["conv1.weight"])
    assert f"{file} has 2 tensors without a place in the network: decoder.0.weight, fc.0.weight" in said()


def test_a_mistake_is_found_when_recipes_are_checked(file, tmp_path):
    wide = {"backbone__width": 8}
    with pytest.raises(WeightsError, match="100 tensors of the file cannot be loaded"):
        check_training(tuned(file, **wide), tmp_path)
    file.unlink()
    with pytest.raises(OptionError, match=r"backbone.weights='.*' is not allowed; there is no such file"):
        train_several([tuned(file)], tmp_path, show_progress=False)


def test_two_origins_of_the_first_weights_are_refused(file):
    with pytest.raises(RecipeError, match=r"backbone.weights='.*' and backbone.pretrained=true are two origins"):
        resolve(DEMO, {"backbone": "resnet18", "backbone.weights": str(file), "backbone.pretrained": "true"})


@pytest.mark.slow
def test_a_run_is_named_by_its_file_and_its_checksum_identifies_it(file, tmp_path):
    given = {"backbone.width": 4, "backbone.weights": str(file)}
    assert resolve(DEMO, given).name == f"{DEMO}+backbone.weights=seven+backbone.width=4"
    elsewhere = tmp_path / "elsewhere" / "seven.safetensors"
    elsewhere.parent.mkdir()
    with interrupted(1):
        trained(tuned(file), tmp_path)
    shutil.move(file, elsewhere)
    with interrupted(2):  # the file is gone
        trained(tuned(file), tmp_path)
    folder = trained(tuned(elsewhere), tmp_path)
    weights = load_file(elsewhere)
    save_file({**weights, "bn1.bias": weights["bn1.bias"] + 1}, file)
    with pytest.raises(
        RunError, match=r"started from another file than backbone.weights=.*: its SHA-256 is \w{12} there"
    ):
        trained(tuned(file), tmp_path)
    (outcome,) = train_several([tuned(file), tuned(elsewhere, name="other")], tmp_path / "runs", show_progress=False)[
        :1
    ]
    assert "started from another file" in outcome.error
    with pytest.raises(RunError, match="began with a file of weights, and backbone.weights is not given"):
        trained(recipe(name="tuned"), tmp_path)
    trained(recipe(name="random"), tmp_path)
    with pytest.raises(RunError, match=r"random/seed-0 began without backbone.weights="):
        trained(tuned(elsewhere, name="random"), tmp_path)
    assert trained(tuned(elsewhere), tmp_path, overwrite=True) == folder


def test_a_link_to_a_file_keeps_the_name_that_the_user_gave(file, tmp_path):
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshots").mkdir()
    blob = Path(shutil.move(file, tmp_path / "blobs" / "0f3a9b"))
    link = tmp_path / "snapshots" / "model.safetensors"
    link.symlink_to(Path("..", "blobs", blob.name))
    given = {**SHORT, "backbone.weights": str(link)}
    assert "+backbone.weights=model+backbone.width" in resolve(DEMO, given).name
    assert torch.equal(started(tuned(link))["conv1.weight"], load_file(blob)["conv1.weight"])
    (tmp_path / "newest").symlink_to(tmp_path / "snapshots")
    through = tmp_path / "newest" / "model.safetensors"
    assert resolve(DEMO, {**given, "backbone.weights": str(through)}).options["backbone"]["weights"] == str(link)
    blob.unlink()
    assert resolve(DEMO, given).name.startswith(f"{DEMO}+backbone.weights=model+"), "the same run without the file"


def test_an_unfinished_run_does_not_continue_with_another_file(file, tmp_path):
    with interrupted(1):
        trained(tuned(file), tmp_path)
    weights = load_file(file)
    save_file({**weights, "bn1.bias": weights["bn1.bias"] + 1}, file)
    with pytest.raises(RunError, match="started from another file"):
        trained(tuned(file), tmp_path)


@pytest.fixture
def photographs(tmp_path):
    return write_folder(tmp_path / "photographs", 8, digits=range(4))


def test_images_are_prepared_as_the_file_says_also_where_it_is_gone(photographs, tmp_path):
    of_folder = {**SHORT, "data": "folder", "data.root": str(photographs), "data.train_per_class": None}
    prepared = {"data.mean": [0.25, 0.5, 0.75], "data.std": [0.5, 0.25, 0.125], "data.interpolation": "bicubic"}
    first = {**of_folder, **prepared, "data.image_size": 16, "data.resize": 18, "name": "first", "trainer.epochs": 1}
    file = trained(resolve(DEMO, first), tmp_path).network_file
    given = {**of_folder, "backbone.weights": str(file), "name": "tuned"}
    unbroken = trained(resolve(DEMO, given), tmp_path / "unbroken")
    source = unbroken.recipe().build("data")
    assert isinstance(source, Folder)
    assert (source.mean, source.std) == ((0.25, 0.5, 0.75), (0.5, 0.25, 0.125))
    assert (source.image_size, source.resize, source.interpolation) == (16, 18, "bicubic")
    with interrupted(1):
        trained(resolve(DEMO, given), tmp_path)
    file.unlink()
    gone = resolve(DEMO, given)
    assert gone.undecided >= {"data.mean", "data.std", "data.image_size", "data.resize", "data.interpolation"}
    broken = trained(gone, tmp_path)
    assert differences(outcome(unbroken), outcome(broken)) == []
    assert trained(gone, tmp_path) == broken
    (kept,) = train_several([gone], tmp_path / "runs", show_progress=False)
    assert kept.error is None
    assert compare_outcomes([kept]).rows
    with pytest.raises(OptionError, match="there is no such file"):
        trained(resolve(DEMO, {**given, "name": "new", "data.image_size": 16}), tmp_path)


def test_what_the_recipe_says_stays_and_what_is_published_comes_after_the_file(file, tmp_path):
    def data(**options):
        given = {"data": "folder", "data.root": "photos", "backbone.weights": str(file), **options}
        return resolve(DEMO, given).options["data"]

    own = (0.5, 0.5, 0.5)
    kept = data(**{"data.mean": list(own), "data.image_size": 32})
    assert (kept["mean"], kept["resize"]) == (own, None)
    assert data(**{"data.image_size": 32})["resize"] == 32, "cropped by the share that the file says"
    of_somebody = tmp_path / "somebody.pth"
    torch.save({}, of_somebody)
    published = data(**{"backbone": "vit_tiny_patch16_224", "backbone.weights": str(of_somebody)})
    assert (published["mean"], published["resize"], published["interpolation"]) == (own, 248, "bicubic")
    ours = data(**{"backbone.weights": str(of_somebody)})
    assert (ours["image_size"], ours["interpolation"]) == (None, "bilinear")


def of_an_older_version(file):
    """Leave only what older versions wrote beside the weights."""
    metadata = {"class_names": [str(digit) for digit in range(7)], "input_size": [3, 32, 32], "epoch": 1}
    save_file(load_file(file), file, {"selfkd": json.dumps(metadata)})
    return file


def test_the_size_of_an_older_file_is_followed_and_the_log_says_whose_normalisation_is_used(
    file, photographs, tmp_path, said
):
    images = {**SHORT, "data": "folder", "data.root": str(photographs), "data.train_per_class": None, "name": "tuned"}
    Experiment.build(resolve(DEMO, {**images, "backbone.weights": str(file)}))
    assert [line for line in said() if line.startswith(f"images are normalised as {file} says: data.mean=[")]
    recipe = resolve(DEMO, {**images, "backbone.weights": str(of_an_older_version(file))})
    assert (recipe.options["data"]["image_size"], recipe.options["data"]["mean"]) == (32, Folder.mean)
    Experiment.build(recipe)
    unknown = f"{file} does not say how images were normalised; the values of data=folder are used: data.mean=["
    assert [line for line in said() if line.startswith(unknown)]
    timm = {"data": "folder", "data.root": str(photographs), "backbone": "resnet18", "backbone.weights": str(file)}
    published = resolve(DEMO, timm)
    options = published.options["data"]
    assert (options["image_size"], options["resize"], options["mean"]) == (32, 32, (0.485, 0.456, 0.406))
    assert "the values of the published weights of resnet18 are used" in normalization_origin(published)
    assert normalization_origin(resolve(DEMO, {**timm, "data.mean": [0.5, 0.5, 0.5]})) is None


def test_nothing_that_follows_the_training_needs_the_file(file, tmp_path):
    folder = trained(tuned(file), tmp_path)
    file.unlink()
    assert accuracies(folder.path) == folder.scores()["last"]["scores"]["test"]
    loaded = load(folder.path)
    assert loaded.network(loaded.transform(digit(3)).unsqueeze(0)).shape == (1, 10)
    exported, difference = export_run(folder.path, "best")
    assert difference <= 1e-6
    assert evaluate(folder.path, checkpoint="best").scores
    assert started(tuned(exported, name="again"))["conv1.weight"].shape == (4, 3, 3, 3)


def test_the_peer_has_a_file_of_its_own(file, tmp_path):
    other = tmp_path / "other.pth"
    torch.save(
        {key: value * 2 if value.is_floating_point() else value for key, value in load_file(file).items()}, other
    )
    mutual = {"method": "dml", "trainer__epochs": 1}
    method = Experiment.build(tuned(file, peer__weights=str(other), **mutual)).method
    assert torch.equal(method.peer.network.conv1.weight, 2 * method.backbone.network.conv1.weight)
    both = Experiment.build(tuned(file, **mutual)).method
    assert torch.equal(both.peer.network.conv1.weight, both.backbone.network.conv1.weight)
    folder = trained(tuned(file, peer__weights=str(other), **mutual), tmp_path)
    other.write_bytes(b"another")
    with pytest.raises(RunError, match="started from another file than peer.weights="):
        trained(tuned(file, peer__weights=str(other), **mutual), tmp_path)
    assert folder.is_finished


class Own(nn.Module):
    """A network of somebody's own, with stages."""

    def __init__(self, num_classes):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(4))
        self.head = nn.Linear(3, num_classes)

    def forward(self, images):
        for layer in self.layers:
            images = layer(images)
        return self.head(images.mean((2, 3)))


def own(num_classes):
    from selfkd import stage

    return stage(Own(num_classes), [f"layers.{index}" for index in range(4)], input_size=8)


def own_with_weights(num_classes, *, weights: str = "random"):
    staged = own(num_classes)
    nn.init.constant_(staged.network.layers[0].weight, 7 if weights == "seven" else 0)
    return staged


def test_a_network_of_somebodys_own_starts_from_a_file_too(tmp_path):
    before = own(4).network.state_dict()
    torch.save({f"net.{key}": value for key, value in before.items()}, tmp_path / "own.pth")
    options = {"backbone": f"{__name__}:own", "backbone.weights": str(tmp_path / "own.pth"), "name": "own"}
    loaded = started(resolve(DEMO, options))
    assert all(torch.equal(value, before[key]) for key, value in loaded.items() if not key.startswith("head."))


def test_an_option_weights_of_somebodys_own_stays_theirs(tmp_path):
    options = {"backbone": f"{__name__}:own_with_weights", "trainer.epochs": 1}
    given = resolve(DEMO, {**options, "backbone.weights": "seven"})
    assert given.options["backbone"] == {"weights": "seven"}
    assert given.name.endswith("+backbone.weights=seven+trainer.epochs=1")
    assert started(given)["layers.0.weight"].mean() == 7
    folder = trained(resolve(DEMO, {**options, "backbone.weights": "seven", "name": "own"}), tmp_path)
    assert not folder.weights_file.exists()
    with pytest.raises(RunError, match="backbone.weights: 'seven' there, 'eight' now"):
        trained(resolve(DEMO, {**options, "backbone.weights": "eight", "name": "own"}), tmp_path)


def test_a_teacher_does_not_start_from_its_students_file(file, first, tmp_path):
    teacher = trained(recipe(name="teacher", trainer__epochs=1), tmp_path)
    options = {"method": "kd", "teacher": "file", "teacher__path": str(teacher.network_file), "trainer__epochs": 1}
    folder = trained(tuned(file, teacher__backbone="resnet18_cifar", **options), tmp_path)
    assert folder.is_finished
    given = {"teacher__backbone": "resnet18_cifar", "teacher__backbone__weights": str(file)}
    with pytest.raises(RecipeError, match="teacher.backbone.weights=.* has no meaning with teacher=file"):
        trained(tuned(file, **given, **options, name="wrong"), tmp_path)
