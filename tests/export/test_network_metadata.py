import json

import pytest
import torch
from safetensors.torch import save_file

from selfkd.contract import Preprocessing
from selfkd.errors import WeightsError
from selfkd.export.network_metadata import NetworkMetadata, read_metadata

WHOLE = {
    "class_names": ["a", "b"],
    "input_size": [3, 224, 224],
    "epoch": 7,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
    "interpolation": "bicubic",
    "resize": 237,
}


@pytest.fixture
def written(tmp_path):
    """`written(content)`: what is read from a file with this text under our key of the metadata."""

    def write(content):
        file = tmp_path / "a.safetensors"
        text = content if isinstance(content, str) else json.dumps(content)
        save_file({"a": torch.ones(1)}, file, {} if content is None else {"selfkd": text})
        return read_metadata(file, "backbone.weights")

    return write


def test_all_that_was_written_is_read(written):
    read = written(WHOLE)
    assert read == NetworkMetadata(**{k: tuple(v) if isinstance(v, list) else v for k, v in WHOLE.items()})
    assert read.preprocessing == Preprocessing((0.5,) * 3, (0.25,) * 3, "bicubic", 224, 224 / 237)


def test_images_that_were_not_resized_have_no_interpolation(written):
    read = written({**WHOLE, "interpolation": None, "resize": None, "input_size": [3, 32, 32]})
    assert read.preprocessing == Preprocessing((0.5,) * 3, (0.25,) * 3, None, 32, 1.0)


def test_a_file_of_an_older_version_does_not_say_how_images_are_prepared(written):
    read = written({"class_names": ["a", "b"], "input_size": [3, 16, 16], "epoch": 1})
    assert read.class_names == ("a", "b")
    assert read.preprocessing is None


def test_a_file_of_somebody_else_says_nothing(written, tmp_path):
    assert written(None) is None
    torch.save({}, tmp_path / "a.pth")
    assert read_metadata(tmp_path / "a.pth", "backbone.weights") is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mean", [0.5]),
        ("mean", ["a", "b", "c"]),
        ("std", [0.5, 0.0, 0.5]),
        ("std", [0.5, None, 0.5]),
        ("interpolation", "magic"),
        ("input_size", [3, 224]),
        ("resize", -5),
        ("class_names", [1, 2]),
    ],
)
def test_a_value_of_another_form_counts_as_missing(written, field, value):
    assert getattr(written({**WHOLE, field: value}), field) is None


@pytest.mark.parametrize("content", ["{", "[]"])
def test_metadata_that_is_no_object_is_damaged(written, content):
    with pytest.raises(WeightsError, match=r"^backbone.weights=.*a.safetensors' is damaged: its metadata is not"):
        written(content)
