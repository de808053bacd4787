import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

import selfkd
from selfkd.errors import CheckpointError, ParityError, RunError
from selfkd.runs import loading
from selfkd.runs.experiment import run
from selfkd.runs.loading import export_network
from selfkd.runs.prediction import predict
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
    right = [each["classes"][0]["label"] == str(load_digits().target[i]) for i, each in enumerate(predictions)]
    assert sum(right) >= 14
    for each in predictions:
        chances = [entry["probability"] for entry in each["classes"]]
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
    assert same["classes"] == shallow["classes"]
    with Image.open(images[3]) as one, Image.open(deep) as other:
        assert torch.equal(loaded.transform(other), loaded.transform(one))


@pytest.mark.parametrize("which", ["last", "best"])
def test_the_exported_file_is_the_trained_network(folder, which, tmp_path):
    path, difference = export_network(folder.path, which, tmp_path / "out" / "net.safetensors")
    assert difference <= 1e-6
    network = selfkd.create_backbone("resnet18_cifar", 10, width=8).network
    loading.load_network(network, path)
    checkpoint = torch.load(weights_file(folder.checkpoints, which), weights_only=True)["state_dict"]
    for key, value in network.state_dict().items():
        assert torch.equal(value, checkpoint[f"method.backbone.network.{key}"])


def test_an_export_that_differs_fails_loudly_and_leaves_nothing(folder, tmp_path, monkeypatch):
    def spoiled(network, path, metadata):
        network.fc.bias.data += 1e-3
        save(network, path, metadata)
        network.fc.bias.data -= 1e-3

    save = loading.save_network
    monkeypatch.setattr(loading, "save_network", spoiled)
    with pytest.raises(ParityError, match="differ by 0.001"):
        export_network(folder.path, "last", tmp_path / "out" / "net.safetensors")
    assert list((tmp_path / "out").iterdir()) == []
    (tmp_path / "older.safetensors").write_text("somebody's")
    with pytest.raises(ParityError):
        export_network(folder.path, "last", tmp_path / "older.safetensors")
    assert (tmp_path / "older.safetensors").read_text() == "somebody's"


def test_folders_that_are_no_finished_runs_are_refused(folder, tmp_path):
    with pytest.raises(RunError, match="is no run folder"):
        selfkd.load(tmp_path)
    folder.network_file.write_bytes(b"")
    with pytest.raises(CheckpointError, match="model.safetensors"):
        selfkd.load(folder.path)
    folder.scores_file.unlink()
    with pytest.raises(RunError, match="is not finished"):
        selfkd.load(folder.path)
