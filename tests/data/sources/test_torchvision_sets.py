"""torchvision's own files, written from real digits with checksums of their own; the real loader classes read them."""

import hashlib
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torchvision import datasets
from torchvision.transforms import v2

from image_sets import digit
from selfkd.data.sources.cifar import CIFAR10, CIFAR100
from selfkd.data.sources.fashion_mnist import FashionMNIST
from selfkd.errors import DataError, OptionError


def pixels(positions, side):
    return np.stack([np.asarray(digit(position, side)) for position in positions])


def write_pickle(file, content):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pickle.dumps(content))
    return [file.name, hashlib.md5(file.read_bytes()).hexdigest()]  # noqa: S324 - torchvision's checksum


def write_batch(file, positions, key):
    flat = pixels(positions, 32).transpose(0, 3, 1, 2).reshape(len(positions), -1)
    return write_pickle(file, {"data": flat, key: load_digits().target[list(positions)].tolist()})


@pytest.fixture(params=[CIFAR10, CIFAR100])
def cifar(request, tmp_path, monkeypatch):
    """A data set and a root in torchvision's layout: 40 digits for training, 20 for testing."""
    source = request.param
    theirs = source.torchvision_class
    folder = tmp_path / theirs.base_folder
    labels = "labels" if source is CIFAR10 else "fine_labels"
    files = [name for name, _ in theirs.train_list]
    parts = np.array_split(np.arange(40), len(files))
    train = [write_batch(folder / name, part.tolist(), labels) for name, part in zip(files, parts, strict=True)]
    test = [write_batch(folder / theirs.test_list[0][0], range(40, 60), labels)]
    names = [f"digit {each}" for each in range(10)]
    _, checksum = write_pickle(folder / theirs.meta["filename"], {theirs.meta["key"]: names})
    monkeypatch.setattr(theirs, "train_list", train)
    monkeypatch.setattr(theirs, "test_list", test)
    monkeypatch.setattr(theirs, "meta", {**theirs.meta, "md5": checksum})
    return source, tmp_path


def test_cifars_pickles_are_read(cifar):
    source, root = cifar
    splits = source(root=str(root)).load(seed=0)
    assert splits.train.images.shape == (40, 3, 32, 32)
    assert splits.train.images.dtype == torch.uint8
    assert torch.equal(splits.test.images, torch.from_numpy(pixels(range(40, 60), 32)).permute(0, 3, 1, 2))
    assert splits.test.labels.tolist() == load_digits().target[40:60].tolist()
    assert splits.class_names[9] == "digit 9"
    assert torch.equal(source().image_transform()(digit(3)), splits.train.images[3])


class Exploding:
    def __reduce__(self):
        return (pytest.fail, ("a foreign pickle was loaded",))


def test_pickles_of_another_checksum_are_never_loaded(cifar):
    source, root = cifar
    folder = root / source.torchvision_class.base_folder
    name = source.torchvision_class.test_list[0][0]
    (folder / name).write_bytes(pickle.dumps(Exploding()))
    with pytest.raises(DataError, match=f"{folder.name} is incomplete or damaged.*data.download=true"):
        source(root=str(root)).load(seed=0)


@pytest.mark.parametrize("source", [CIFAR10, CIFAR100, FashionMNIST])
def test_what_is_missing_says_how_to_get_it(source, tmp_path):
    with pytest.raises(DataError, match=f"{tmp_path.name}' holds no .*; data.download=true fetches"):
        source(root=str(tmp_path)).load(seed=0)
    with pytest.raises(DataError, match="nowhere' is not a folder; data.download=true makes"):
        source(root=str(tmp_path / "nowhere")).load(seed=0)
    with pytest.raises(OptionError, match="data.root is missing"):
        source(download=True).load(seed=0)


@pytest.mark.parametrize(
    ("source", "address"),
    [
        (CIFAR10, "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"),
        (CIFAR100, "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"),
        (FashionMNIST, None),
    ],
)
def test_a_download_is_torchvisions_and_its_failure_is_told(source, address, tmp_path, monkeypatch):
    asked = []

    def download(url, *args, **kwargs):
        asked.append((url, kwargs.get("md5")))
        raise OSError("no network in tests")

    module = "mnist" if source is FashionMNIST else "cifar"
    monkeypatch.setattr(f"torchvision.datasets.{module}.download_and_extract_archive", download)
    with pytest.raises(DataError, match="no network in tests"):
        source(root=str(tmp_path / "new"), download=True).load(seed=0)
    url, md5 = asked[0]
    assert md5, "torchvision checks what it downloads"
    assert address in (None, url)


def test_no_download_without_being_asked(tmp_path, monkeypatch):
    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", pytest.fail)
    with pytest.raises(DataError):
        CIFAR10(root=str(tmp_path)).load(seed=0)


def write_idx(file, array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(header + np.uint8(array).tobytes())


@pytest.fixture
def fashion(tmp_path):
    raw = tmp_path / "FashionMNIST" / "raw"
    for name, positions in (("train", range(40)), ("t10k", range(40, 60))):
        write_idx(raw / f"{name}-images-idx3-ubyte", pixels(positions, 28)[..., 0])
        write_idx(raw / f"{name}-labels-idx1-ubyte", load_digits().target[list(positions)])
    return tmp_path


def test_fashion_mnist_gets_three_channels_and_a_border(fashion):
    plain = FashionMNIST(root=str(fashion), image_size=28).load(seed=0)
    padded = FashionMNIST(root=str(fashion)).load(seed=0)
    expected = torch.from_numpy(pixels(range(40), 28)).permute(0, 3, 1, 2)
    assert torch.equal(plain.train.images, expected)
    assert padded.test.images.shape == (20, 3, 32, 32)
    assert torch.equal(padded.train.images, v2.functional.pad(expected, [2]))
    assert plain.class_names == tuple(datasets.FashionMNIST.classes)
    image = Image.fromarray(pixels([5], 28)[0, ..., 0])
    for opened in (image, image.convert("RGB")):
        assert torch.equal(FashionMNIST().image_transform()(opened), padded.train.images[5])


def test_damaged_idx_files_are_named(fashion):
    raw = fashion / "FashionMNIST" / "raw"
    file = raw / "train-images-idx3-ubyte"
    whole = file.read_bytes()
    for damaged in (b"", whole[:3], whole[:10], whole[:-1000], b"no idx file at all"):
        file.write_bytes(damaged)
        with pytest.raises(DataError, match="FashionMNIST is incomplete or damaged"):
            FashionMNIST(root=str(fashion)).load(seed=0)
    file.write_bytes(whole)
    write_idx(raw / "t10k-labels-idx1-ubyte", load_digits().target[:7])
    with pytest.raises(DataError, match="20 test images but 7 labels"):
        FashionMNIST(root=str(fashion)).load(seed=0)
    with pytest.raises(OptionError, match="data.image_size=64 .* 28 or 32"):
        FashionMNIST(image_size=64)


@pytest.mark.parametrize("mode", ["RGBA", "P", "LA", "CMYK", "L"])
def test_pictures_of_any_colours_become_what_the_network_takes(mode):
    picture = digit(5).convert(mode)
    for source in (CIFAR10(), FashionMNIST()):
        transform = source.inference_transform()
        torch.testing.assert_close(transform(picture), transform(picture.convert("RGB")), rtol=0, atol=0)
