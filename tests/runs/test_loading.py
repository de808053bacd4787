import re

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

import selfkd
from accuracies import accuracies
from selfkd.errors import (
    RunError,
    RunInterruptedError,
    UserError,
)
from selfkd.methods.base import Method
from selfkd.methods.plain import Plain
from selfkd.runs.export import export_run
from selfkd.runs.prediction import predict
from selfkd.runs.train import run
from selfkd.training.checkpoint_files import weights_file


@pytest.fixture
def folder(short, tmp_path):
    return run(short(**{"trainer.epochs": 60, "trainer.evaluate_every": 30}), tmp_path / "runs", show_progress=False)


@pytest.fixture
def images(tmp_path):
    files = []
    for position in range(20):
        files.append(tmp_path / f"{position}.png")
        Image.fromarray(np.uint8(load_digits().images[position] * (255 / 16))).save(files[-1])
    return files


def test_a_loaded_run_is_the_plain_network_and_knows_the_digits(folder, images):
    loaded = selfkd.load(folder.path)
    plain = selfkd.create_backbone("resnet18_cifar", 10, width=8).network
    assert list(loaded.network.state_dict()) == list(plain.state_dict())
    assert not loaded.network.training
    assert loaded.class_names == tuple("0123456789")
    assert loaded.transform(Image.open(images[0])).shape == loaded.input_size == (3, 16, 16)
    predictions = list(predict(loaded, images, top=3))
    right = [each.label == str(load_digits().target[i]) for i, each in enumerate(predictions)]
    assert sum(right) >= 14
    for each in predictions:
        chances = [entry.probability for entry in each.classes]
        assert len(chances) == 3
        assert chances == sorted(chances, reverse=True)
        assert 0 < sum(chances) <= 1 + 1e-6


def test_16_bits_of_grey_are_predicted_as_8(folder, images):
    with Image.open(images[3]) as image:
        grey = np.asarray(image)
    deep = images[3].with_name("deep.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(deep)
    loaded = selfkd.load(folder.path)
    shallow, same = predict(loaded, [images[3], deep])
    assert same.classes == shallow.classes
    with Image.open(images[3]) as one, Image.open(deep) as other:
        assert torch.equal(loaded.transform(other), loaded.transform(one))


def test_folders_that_are_no_runs_are_refused(tmp_path):
    with pytest.raises(RunError, match="is not a run folder: it holds no recipe.yaml$"):
        selfkd.load(tmp_path)


def test_the_folder_above_runs_is_answered_with_its_seeds(folder):
    with pytest.raises(RunError, match=rf"holds no recipe.yaml; give the run of a seed: {re.escape(str(folder.path))}"):
        selfkd.load(folder.path.parent)


def started(num_classes: int, *, weights: str | None = None, width: int = 4):
    """A network that begins from the weights in a file."""
    network = selfkd.create_backbone("resnet18_cifar", num_classes, width=width, input_size=16).network
    if weights is not None:
        network.load_state_dict(torch.load(weights, weights_only=True))
    return network


def test_a_run_that_started_from_a_file_of_weights_continues_without_it(short, tmp_path, caplog, monkeypatch):
    file = tmp_path / "start.pth"
    torch.save(started(10).state_dict(), file)
    options = {"backbone": f"{__name__}:started", "backbone.weights": str(file), "backbone.width": 4, "name": "started"}
    recipe = short("plain", **options, **{"trainer.epochs": 2})
    steps = []

    def stop(self, progress):
        steps.append(progress)
        if progress.epoch == 1 and len(steps) == 2:
            raise KeyboardInterrupt
        Method.begin_epoch(self, progress)

    monkeypatch.setattr(Plain, "begin_epoch", stop)
    with pytest.raises(RunInterruptedError):
        run(recipe, tmp_path / "runs", show_progress=False)
    file.rename(tmp_path / "elsewhere.pth")
    caplog.set_level("INFO", "selfkd")
    folder = run(recipe, tmp_path / "runs", show_progress=False)
    assert f"backbone.weights={file} does not exist; the run's own weights are used" in caplog.text
    checkpoint = torch.load(weights_file(folder.checkpoints, "last"), weights_only=True)["state_dict"]
    loaded = selfkd.load(folder.path, trust_imports=True).network
    assert torch.equal(loaded.fc.weight, checkpoint["method.backbone.network.fc.weight"])
    assert export_run(folder.path, "best", trust_imports=True)[1] <= 1e-6
    assert accuracies(folder.path, trust_imports=True) == folder.scores()["last"]["scores"]["test"]
    with pytest.raises(UserError, match="raised FileNotFoundError"):
        run(short("plain", **{**options, "name": "new"}), tmp_path / "runs", show_progress=False)
