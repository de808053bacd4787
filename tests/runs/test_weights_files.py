"""Files of weights by whomever they were written: what is understood, and what is refused."""

import json
import re
import struct
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from selfkd.errors import OptionError, WeightsError
from selfkd.runs.weights_files import checksum_of, named_as_in, read_weights

WEIGHTS = {"conv.weight": torch.arange(6.0), "fc.bias": torch.ones(2)}


def saved(content, path):
    torch.save(content, path)
    return path


def read(path):
    return read_weights(path, "backbone.weights")


def same(found, expected=WEIGHTS):
    return found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.ckpt", "a.bin", "a.pth.tar", "weights"])
def test_a_state_dict_is_read_whatever_its_name(tmp_path, name):
    assert same(read(saved(WEIGHTS, tmp_path / name)))


def test_safetensors_are_read(tmp_path):
    save_file(WEIGHTS, tmp_path / "a.safetensors")
    assert same(read(tmp_path / "a.safetensors"))


def test_the_format_of_older_versions_of_torch_is_read(tmp_path):
    torch.save(WEIGHTS, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    assert same(read(tmp_path / "a.pth"))


OTHERS = {key: value + 1 for key, value in WEIGHTS.items()}


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": WEIGHTS, "epoch": 3, "optimizer": {"state": {0: {"momentum_buffer": torch.ones(6)}}}},
        {"model": WEIGHTS, "args": {"lr": 0.1}},
        {"model": OTHERS, "model_ema": WEIGHTS},
        {"state_dict": OTHERS, "state_dict_ema": WEIGHTS},
        {"network": WEIGHTS},
        {"somebody's": WEIGHTS, "epoch": 1},
        {"checkpoint": {"model": {"state_dict": WEIGHTS}}},
        {**WEIGHTS, "version": 2},
    ],
    ids=lambda content: "+".join(content),
)
def test_a_state_dict_in_a_larger_file_is_found(tmp_path, content):
    assert same(read(saved(content, tmp_path / "a.pth")))


@pytest.mark.parametrize(
    "prefix",
    ["", "module.", "model.", "_orig_mod.", "backbone.", "module._orig_mod.", "method.backbone.network.", "a.b."],
)
def test_prefixes_are_understood(prefix, tmp_path):
    file = {f"{prefix}{key}": value for key, value in WEIGHTS.items()}
    assert same(named_as_in(file, [*WEIGHTS, "other"], tmp_path))


def test_the_keys_of_other_parts_are_left_out(tmp_path):
    peer = {f"method.peer.network.{key}": value for key, value in OTHERS.items()}
    file = {
        **peer,
        **{f"method.backbone.network.{key}": value for key, value in WEIGHTS.items()},
        "method.w": torch.ones(1),
    }
    assert same(named_as_in(file, list(WEIGHTS), tmp_path)), "the deployed network, not its peer"


def test_two_networks_of_one_kind_are_refused(tmp_path):
    file = {f"{prefix}{key}": value for prefix in ("first.", "second.") for key, value in WEIGHTS.items()}
    with pytest.raises(WeightsError, match=r"a.pth holds several networks .* begin with first\., second\.; save one"):
        named_as_in(file, list(WEIGHTS), tmp_path / "a.pth")


def newer(path):
    """A file like those of a version of torch that does not exist yet."""
    with zipfile.ZipFile(saved(WEIGHTS, path.with_suffix(".old"))) as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.infolist():
            new.writestr(entry.filename, b"99\n" if entry.filename.endswith("version") else old.read(entry.filename))


def of_unknown_type(path):
    """A file of safetensors with a type of numbers that does not exist yet."""
    save_file(WEIGHTS, path)
    content = path.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    header["fc.bias"]["dtype"] = "F3"
    written = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(written)) + written + content[8 + size :])


def cut(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - 100])


def damaged(path):
    cut(saved(WEIGHTS, path))


def damaged_safetensors(path):
    save_file({"a": torch.ones(100)}, path)
    cut(path)


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        (
            "gone.pth",
            lambda path: None,
            r"backbone.weights='.*gone.pth' is not allowed; there is no such file",
        ),
        ("folder.pth", lambda path: path.mkdir(), "it is a folder without the weights of a run"),
        (
            "text.pth",
            lambda path: path.write_text("hello"),
            r"^backbone.weights='.*text.pth' is damaged, is no file of weights, or holds more",
        ),
        ("empty.pth", lambda path: path.touch(), "empty.pth' is damaged, is no file of weights"),
        (
            "image.png",
            lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" * 9),
            "image.png' is damaged, is no file of weights",
        ),
        (
            "empty.safetensors",
            lambda path: path.touch(),
            "empty.safetensors' is no safetensors file, or it is damaged",
        ),
        ("damaged.pth", damaged, "damaged.pth' is damaged"),
        (
            "damaged.safetensors",
            damaged_safetensors,
            "is no safetensors file, or it is damaged; copy or download it again$",
        ),
        (
            "whole.pth",
            lambda path: torch.save(nn.Linear(2, 2), path),
            "holds more than tensors; save it with torch.save",
        ),
        ("newer.pth", newer, "newer.pth' was written by a newer version of torch; update torch"),
        (
            "newer.safetensors",
            of_unknown_type,
            "has a type of numbers that this version of safetensors does not know; update",
        ),
        ("list.pth", lambda path: torch.save([torch.ones(1)], path), "list.pth' is not a state dict; save it with"),
        ("words.pth", lambda path: torch.save({"lr": 0.1}, path), "words.pth' is not a state dict"),
        ("numbers.pth", lambda path: torch.save({1: torch.ones(1)}, path), "numbers.pth' is not a state dict"),
        (
            "two.pth",
            lambda path: torch.save({"one": WEIGHTS, "two": WEIGHTS}, path),
            "two.pth' holds tensors under several keys, one, two; save one of them alone",
        ),
    ],
)
def test_what_is_no_file_of_weights_is_refused(tmp_path, name, write, message):
    write(tmp_path / name)
    with pytest.raises((WeightsError, OptionError), match=re.compile(message)) as raised:
        read(tmp_path / name)
    assert raised.value.exit_status == 2, "the user's input is wrong"


@pytest.mark.parametrize("given", ["trial", "trial/seed-0"])
def test_the_folder_of_a_run_in_place_of_its_weights_is_answered_with_their_path(tmp_path, given):
    file = tmp_path / "trial" / "seed-0" / "model.safetensors"
    file.parent.mkdir(parents=True)
    file.touch()
    with pytest.raises(OptionError, match=f"it is the folder of a run; set backbone.weights={re.escape(str(file))},"):
        read(tmp_path / given)


def test_the_checksum_is_that_of_the_files_bytes(tmp_path):
    (tmp_path / "abc").write_text("abc")
    assert checksum_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
