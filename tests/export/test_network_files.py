import json
import math
import stat

import pytest
import torch
from safetensors import safe_open
from torch import nn

import selfkd
from selfkd.errors import CheckpointError, ParityError
from selfkd.export.network_files import check_parity, load_network, save_network


def network(seed, width=8):
    torch.manual_seed(seed)
    return selfkd.create_backbone("resnet18_cifar", 5, width=width, input_size=16).network


def metadata_of(path):
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["selfkd"])


def test_keys_weights_and_metadata_survive(tmp_path):
    path = tmp_path / "model.safetensors"
    trained, loaded = network(0).to(memory_format=torch.channels_last), network(1)
    with pytest.raises(ParityError, match="differ by"):
        check_parity(trained, loaded, (3, 16, 16), 1e-6)
    save_network(trained, path, {"class_names": ["a", "b"], "mean": math.nan})
    load_network(loaded, path)
    assert check_parity(trained, loaded, (3, 16, 16), 1e-6) <= 1e-6
    assert list(loaded.state_dict()) == list(trained.state_dict())
    assert metadata_of(path) == {"class_names": ["a", "b"], "mean": None}, "NaN is no JSON"
    (tmp_path / "ordinary").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "ordinary").stat().st_mode)


def test_weights_that_a_network_shares_are_kept_under_both_names(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(3, 3)
            self.b = self.a

    trained, loaded = Tied(), Tied()
    save_network(trained, tmp_path / "tied.safetensors", {})
    load_network(loaded, tmp_path / "tied.safetensors")
    assert torch.equal(loaded.b.weight, trained.a.weight)


def test_another_architecture_is_refused(tmp_path):
    save_network(network(0), tmp_path / "model.safetensors", {})
    with pytest.raises(CheckpointError, match="cannot be loaded into ResNetCifar"):
        load_network(network(0, width=16), tmp_path / "model.safetensors")


def test_a_damaged_or_foreign_file_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    save_network(network(0), path, {})
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="model.safetensors"):
        load_network(network(0), path)


def test_logits_that_are_no_numbers_are_not_equal():
    broken = network(0)
    broken.fc.bias.data.fill_(float("nan"))
    with pytest.raises(ParityError, match="the trained network itself gives logits that are NaN"):
        check_parity(broken, network(0), (3, 16, 16), 1e-6)
    with pytest.raises(ParityError, match="the parity check failed: .* differ by nan"):
        check_parity(network(0), broken, (3, 16, 16), 1e-6)


def test_a_network_that_does_not_take_its_images_fails_the_parity_check():
    with pytest.raises(ParityError, match=r"the parity check failed: no logits for images of \[1, 16, 16\]"):
        check_parity(network(0), network(0), (1, 16, 16), 1e-6)
