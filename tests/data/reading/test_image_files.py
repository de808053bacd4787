import hashlib
import math
import os
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from image_sets import digit, save_digit
from selfkd.data.reading.decoding import read_rgb
from selfkd.data.reading.image_files import ImageFiles
from selfkd.data.splits import Splits
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
    assert torch.equal(pickle.loads(pickle.dumps(files)).transformed(3), files.transformed(3))  # noqa: S301  # our own bytes


def test_all_of_them_fit_in_memory_where_they_are_few(files):
    held = files.in_memory("digits")
    assert torch.equal(held.images, torch.stack([files.transformed(position) for position in range(6)]))
    assert torch.equal(held.labels, files.labels)
    assert held.input_size == files.input_size


def test_the_fingerprint_is_of_names_contents_and_labels(files, tmp_path):
    before = fingerprint(files)
    assert before == fingerprint(replace(files, labels=files.labels.clone()))
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (tmp_path / "grün").rename(moved / "grün")
    assert fingerprint(replace(files, root=moved)) == before, "places do not count"
    (moved / "grün").rename(tmp_path / "grün")
    for position in range(6):
        os.utime(files.path(position), (0, 0))
    assert fingerprint(files) == before, "times do not count"
    assert fingerprint(replace(files, labels=files.labels.flip(0))) != before
    with files.path(0).open("ab") as file:
        file.write(b"more")
    assert fingerprint(files) != before
    files.path(0).unlink()
    with pytest.raises(DataError, match="0.JPEG cannot be read"):
        fingerprint(files)


def old_fingerprint(files):
    """As it was noted before contents counted."""
    digest = hashlib.blake2b(b"a\nb\nc", digest_size=16)
    for _ in ("train", "test"):
        for position, label in enumerate(files.labels.tolist()):
            digest.update(b"%s\0%d\0%d\n" % (files.names[position], files.path(position).stat().st_size, label))
    return digest.hexdigest()


def test_images_of_equal_size_that_change_places_change_the_fingerprint(files):
    contents = [files.path(position).read_bytes() for position in (0, 1)]
    one, other = (content.ljust(max(map(len, contents)), b"\0") for content in contents)
    files.path(0).write_bytes(one)
    files.path(1).write_bytes(other)
    before, old = fingerprint(files), old_fingerprint(files)
    files.path(0).write_bytes(other)
    files.path(1).write_bytes(one)
    assert fingerprint(files) != before
    assert old_fingerprint(files) == old


def test_what_an_older_version_noted_is_compared_by_its_own_rule(files):
    splits = Splits(files, files, ("a", "b", "c"))
    assert splits.matches(old_fingerprint(files))
    assert splits.matches(splits.fingerprint())
    assert not splits.matches("0" * 32)
    assert not splits.matches("content-1:" + "0" * 32)
    with pytest.raises(DataError, match="made by the rule 'content-2', which this version of selfkd does not know"):
        splits.matches("content-2:" + "0" * 32)


def test_of_many_bytes_the_contents_of_evenly_spread_files_count(files, monkeypatch):
    sizes = sum(files.path(position).stat().st_size for position in range(6))
    monkeypatch.setattr("selfkd.data.reading.image_files._MOST_READ", math.ceil(sizes / 3))
    read = []
    digest = ImageFiles._digest
    monkeypatch.setattr(
        ImageFiles, "_digest", lambda files, position: [read.append(position), digest(files, position)][1]
    )
    fingerprint(files)
    assert sorted(set(read)) == [0, 3]


@pytest.mark.parametrize("damage", ["truncated", "text", "gone", "folder", "pipe"])
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
    elif damage == "pipe":
        os.mkfifo(path)
    with pytest.raises(DataError, match="3.JPEG: not a readable image"):
        files.in_memory("digits")


def test_every_kind_of_colour_becomes_rgb(tmp_path):
    for mode in ("L", "CMYK", "RGB", "1"):
        save_digit(tmp_path / mode, 8, mode)
        assert read_rgb(tmp_path / mode, mode).mode == "RGB"


@pytest.mark.parametrize(
    ("kind", "mode", "ending"),
    [("<u2", "I;16", "png"), ("<u2", "I;16", "tif"), (">u2", "I;16B", "tif"), ("i4", "I", "tif")],
)
def test_of_16_bits_of_grey_the_upper_8_are_kept(tmp_path, kind, mode, ending):
    grey = np.asarray(digit(3).convert("L"))
    stored = grey.astype(kind) * 257
    path = tmp_path / f"deep.{ending}"
    Image.frombytes(mode, (32, 32), stored.tobytes()).save(path)
    with Image.open(path) as image:
        assert image.mode == mode
    read = np.asarray(read_rgb(path, "deep"))
    assert np.array_equal(read, np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.full((8, 8), 65536, np.int32), r"whole numbers outside \[0, 65535\]; store it with 8 or 16 bits"),
        (np.full((8, 8), -1, np.int32), "whole numbers outside"),
        (np.full((8, 8), 0.5, np.float32), "floating-point numbers; store it with 8 or 16 bits"),
    ],
)
def test_greys_of_more_than_16_bits_are_refused(tmp_path, pixels, message):
    Image.fromarray(pixels).save(tmp_path / "deep.tif")
    with pytest.raises(DataError, match=f"deep: not a readable image: its pixels are {message}"):
        read_rgb(tmp_path / "deep.tif", "deep")


def test_a_pipe_is_not_waited_for(files):
    files.path(0).unlink()
    os.mkfifo(files.path(0))
    with pytest.raises(DataError, match=r"0.JPEG cannot be read: it is not a regular file"):
        fingerprint(files)


def test_transparency_and_orientation_are_ignored_as_by_torchvision(tmp_path):
    colours = digit(5)
    clear = colours.copy()
    clear.putalpha(0)
    clear.save(tmp_path / "clear.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    colours.save(tmp_path / "turned.png", exif=turned)
    for name in ("clear.png", "turned.png"):
        assert read_rgb(tmp_path / name, name).tobytes() == colours.tobytes()


def test_postscript_is_not_run_whatever_it_is_called(tmp_path):
    file = tmp_path / "picture.png"
    Image.new("RGB", (8, 8)).save(file, "EPS")
    with Image.open(file) as image:
        assert image.format == "EPS", "by itself PIL would"
    with pytest.raises(DataError, match="picture.png: not a readable image: cannot identify image file"):
        read_rgb(file, "picture.png")
