"""The library `datasets` reads local folders as it reads the Hub's, so the real loader is tested without a network."""

import sys

import pytest
import torch

from image_sets import digit, write_folder, write_parquet
from selfkd.data.sources.folder import Folder
from selfkd.data.sources.hub import Hub
from selfkd.data.sources.parquet import Parquet
from selfkd.errors import DataError, OptionError, UserError


@pytest.fixture
def datasets():
    library = pytest.importorskip("datasets", reason="the lowest versions are tested without this extra")
    library.disable_progress_bars()
    return library


def load(name, cache, **options):
    return Hub(name=str(name), root=str(cache), **{"image_size": 32, **options}).load(seed=0)


def test_parquet_files_are_read_as_by_us(datasets, tmp_path):
    write_parquet(tmp_path / "set" / "data" / "train-00000-of-00001.parquet", range(40))
    write_parquet(tmp_path / "set" / "data" / "test-00000-of-00001.parquet", range(40, 60))
    splits = load(tmp_path / "set", tmp_path / "cache")
    ours = Parquet(root=str(tmp_path / "set"), image_size=32).load(seed=0)
    assert splits.class_names == ours.class_names
    assert splits.fingerprint() == ours.fingerprint()


def test_image_files_are_read_as_by_us(datasets, tmp_path):
    write_folder(tmp_path / "set" / "train", 5)
    write_folder(tmp_path / "set" / "test", 2, start=5)
    splits = load(tmp_path / "set", tmp_path / "cache")
    ours = Folder(root=str(tmp_path / "set"), image_size=32).load(seed=0)
    assert splits.class_names == ours.class_names
    assert torch.equal(splits.train.images.sum((1, 2, 3)).sort().values, ours.train.images.sum((1, 2, 3)).sort().values)
    assert splits.test.labels.bincount().tolist() == [2, 2, 2]


def test_paths_in_a_table_are_followed_inside_the_data_set_alone(datasets, tmp_path):
    from pyarrow import parquet

    digit(0).save(tmp_path / "secret.png")
    root = tmp_path / "set"
    file = write_parquet(root / "train-00000-of-00001.parquet", range(40))
    table = parquet.read_table(file)
    digit(4).save(root / "4.png")
    (root / "link.png").symlink_to(tmp_path / "secret.png")

    def load_with(path):
        rows = table.to_pylist()
        rows[4]["image"] = {"bytes": None, "path": str(path)}
        parquet.write_table(type(table).from_pylist(rows, schema=table.schema), file)
        return load(root, tmp_path / "cache", test_fraction=0.3)

    ours = Parquet(root=str(root), image_size=32, test_fraction=0.3).load(seed=0)
    assert load_with(root / "4.png").fingerprint() == ours.fingerprint()
    for path in (tmp_path / "secret.png", root / "link.png", root / ".." / "secret.png"):
        with pytest.raises(
            DataError, match="row 4: not a readable image: it has no bytes, and its path .* is not foll"
        ):
            load_with(path)


def test_downloads_can_be_kept_below_the_home_folder(datasets, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_parquet(tmp_path / "set" / "train-00000-of-00001.parquet", range(40))
    load(tmp_path / "set", "~/cache", test_fraction=0.3)
    assert any((tmp_path / "cache").iterdir())


def test_what_cannot_be_loaded_is_named(datasets, tmp_path):
    with pytest.raises(DataError, match="data.name='.*nowhere' cannot be loaded: "):
        load(tmp_path / "nowhere", tmp_path / "cache")
    with pytest.raises(OptionError, match="data.name is missing.* name of a data set of the Hugging Face Hub"):
        Hub(image_size=32).load(0)


def test_without_the_library_the_user_learns_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"pip install 'selfkd\[hub\]'"):
        Hub(name="uoft-cs/cifar10", image_size=32).load(0)
