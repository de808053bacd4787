import hashlib
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from image_sets import save_digit
from selfkd.data.decoding import read_rgb
from selfkd.data.image_files import ImageFiles
from selfkd.data.source import Splits
from selfkd.errors import DataError

SQUARE = v2.Compose([v2.Resize([16, 16]), v2.PILToTensor()])


@pytest.fixture
def files(tmp_path):
    samples = []
    for position in range(6):
        path = tmp_path / "grün" / f"{position}.JPEG"
        save_digit(path, position, mode="L" if position == 2 else "RGB")
        samples.append((str(path), position % 3))
    return ImageFiles.of(tmp_path, samples, SQUARE, 16)


def fingerprint(files):
    return Splits(files, files, ("a", "b", "c")).fingerprint()


def test_it_knows_what_methods_may_know(files):
    info = Splits(files, files, ("a", "b", "c")).info
    assert (info.num_samples, info.labels, info.input_size) == (6, (0, 1, 2, 0, 1, 2), (3, 16, 16))


def test_images_come_as_they_are_and_transformed(files, tmp_path):
    path = tmp_path / "grün" / "4.JPEG"
    assert files.path(4) == path
    with Image.open(path) as image:
        width, height = image.size
        assert torch.equal(files.transformed(4), SQUARE(image))
    assert files.original(4).shape == (3, height, width)
    grey = files.original(2)
    assert grey.shape[0] == 3
    assert torch.equal(grey[0], grey[1])


def test_some_can_be_taken_in_any_order(files):
    some = files.take(np.array([5, 0]))
    assert len(some) == 2
    assert some.labels.tolist() == [2, 0]
    assert torch.equal(some.transformed(0), files.transformed(5))
    assert fingerprint(some) != fingerprint(files)


def test_other_processes_can_have_it(files):
    assert torch.equal(pickle.loads(pickle.dumps(files)).transformed(3), files.transformed(3))  # noqa: S301


def test_all_of_them_fit_in_memory_where_they_are_few(files):
    held = files.in_memory("digits")
    assert torch.equal(held.images, torch.stack([files.transformed(position) for position in range(6)]))
    assert torch.equal(held.labels, files.labels)
    assert held.input_size == files.input_size


def test_the_fingerprint_is_of_names_sizes_and_labels(files, tmp_path):
    before = fingerprint(files)
    assert before == fingerprint(ImageFiles(files.root, files.names, files.labels.clone(), SQUARE, 16))
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (tmp_path / "grün").rename(moved / "grün")
    assert fingerprint(ImageFiles(moved, files.names, files.labels, SQUARE, 16)) == before, "places do not count"
    (moved / "grün").rename(tmp_path / "grün")
    assert fingerprint(ImageFiles(files.root, files.names, files.labels.flip(0), SQUARE, 16)) != before
    with files.path(0).open("ab") as file:
        file.write(b"more")
    assert fingerprint(files) != before
    files.path(0).unlink()
    with pytest.raises(DataError, match="0.JPEG cannot be read"):
        fingerprint(files)


def test_a_fingerprint_tells_names_from_sizes(files):
    parts = b"".join(files.identity())
    assert hashlib.blake2b(parts).digest()
    assert parts.startswith(f"grün/0.JPEG\0{files.path(0).stat().st_size}\0{0}\n".encode())


@pytest.mark.parametrize("damage", ["truncated", "text", "gone", "folder"])
def test_what_cannot_be_read_is_named(files, damage):
    path = files.path(3)
    whole = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "text":
        path.write_text("no image")
    elif damage == "folder":
        path.mkdir()
    with pytest.raises(DataError, match="3.JPEG: not a readable image"):
        files.in_memory("digits")


def test_every_kind_of_colour_becomes_rgb(tmp_path):
    for mode in ("L", "CMYK", "RGB", "1"):
        save_digit(tmp_path / mode, 8, mode)
        assert read_rgb(tmp_path / mode, mode).mode == "RGB"
