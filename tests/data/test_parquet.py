import pytest
import torch

from image_sets import digit, write_parquet
from selfkd.data.parquet import Parquet
from selfkd.errors import DataError, OptionError

pyarrow = pytest.importorskip("pyarrow")


def load(root, **options):
    return Parquet(root=str(root), **{"image_size": 32, **options}).load(seed=0)


@pytest.mark.parametrize(
    "files",
    [
        ("data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"),
        ("train-00000-of-00001-0a1b2c3d.parquet", "test-00000-of-00001-0a1b2c3d.parquet"),
        ("train.parquet", "validation.parquet"),
        ("default/train/0000.parquet", "default/test/0000.parquet"),
    ],
)
def test_every_layout_of_the_hub_is_found(tmp_path, files):
    write_parquet(tmp_path / files[0], range(40))
    write_parquet(tmp_path / files[1], range(40, 60))
    splits = load(tmp_path)
    assert (len(splits.train), len(splits.test)) == (40, 20)
    assert splits.class_names[3] == "digit 3"
    assert splits.train.labels[:4].tolist() == [0, 1, 2, 3], "rows keep their order, which is the sample index"
    expected = Parquet(image_size=32).image_transform()(digit(7))
    assert torch.equal(splits.train.images[7], expected)


def test_columns_are_found_without_metadata_and_can_be_given(tmp_path):
    write_parquet(tmp_path / "train.parquet", range(30), ("img", "kind"), metadata=False, note=["x"] * 30)
    assert load(tmp_path, test_fraction=0.4).class_names == tuple("0123456789")
    write_parquet(tmp_path / "train.parquet", range(30), ("img", "kind"), metadata=False, row=list(range(30)))
    with pytest.raises(OptionError, match="data.label_column=None .* one of the columns kind, row of .*train.parquet"):
        load(tmp_path)
    assert len(load(tmp_path, label_column="kind", test_fraction=0.4).test) == 12
    with pytest.raises(DataError, match=r"has the columns \['img', 'kind', 'row'\]; 'label' are needed"):
        load(tmp_path, label_column="label")


def test_an_image_column_called_label_is_not_taken_for_the_images(tmp_path):
    masks = [{"bytes": b"no image", "path": None}] * 30
    write_parquet(tmp_path / "train.parquet", range(30), ("image", "category"), metadata=False, label=masks)
    splits = load(tmp_path, test_fraction=0.4)
    assert (len(splits.train), len(splits.class_names)) == (18, 10)


def test_splits_can_be_named(tmp_path):
    write_parquet(tmp_path / "fit-00000-of-00001.parquet", range(30))
    write_parquet(tmp_path / "held-00000-of-00001.parquet", range(30, 50))
    with pytest.raises(OptionError, match="data.train_split=None .* one of fit, held"):
        load(tmp_path)
    assert len(load(tmp_path, train_split="fit", test_split="held").test) == 20


def test_too_much_for_memory_is_refused_before_it_is_decoded(tmp_path):
    write_parquet(tmp_path / "train.parquet", range(30))
    with pytest.raises(OptionError, match="data.memory_gb=0.001 .* at least 0.01, which the 30 images"):
        load(tmp_path, image_size=256, memory_gb=0.001)


def test_the_image_size_must_be_given(tmp_path):
    write_parquet(tmp_path / "train.parquet", range(30))
    with pytest.raises(OptionError, match="data.image_size=None .* the first one has 32x32"):
        load(tmp_path, image_size=None)


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match="holds no Parquet file"):
        load(tmp_path)
    write_parquet(tmp_path / "one" / "train.parquet", range(30))
    write_parquet(tmp_path / "two" / "train.parquet", range(30))
    with pytest.raises(DataError, match="several data sets; data.root must be one of .*one, .*two"):
        load(tmp_path)
    write_parquet(tmp_path / "one" / "test.parquet", range(5), metadata=False)
    assert load(tmp_path / "one").class_names[0] == "digit 0", "names need to stand in one place only"
    write_parquet(tmp_path / "one" / "train.parquet", range(30), metadata=False)
    write_parquet(tmp_path / "one" / "test.parquet", range(5))
    with pytest.raises(DataError, match="the splits train and test of .*one name other classes, or in another order"):
        load(tmp_path / "one")


def test_paths_in_a_file_are_not_followed(tmp_path):
    from pyarrow import parquet

    digit(0).save(tmp_path / "secret.png")
    file = write_parquet(tmp_path / "train.parquet", range(30))
    table = parquet.read_table(file)
    rows = table.to_pylist()
    rows[4]["image"] = {"bytes": None, "path": str(tmp_path / "secret.png")}
    parquet.write_table(type(table).from_pylist(rows, schema=table.schema), file)
    with pytest.raises(DataError, match=r"train.parquet, row 4: not a readable image: it has no bytes"):
        load(tmp_path)


def test_rows_are_numbered_within_their_file(tmp_path):
    from pyarrow import parquet

    write_parquet(tmp_path / "train-00000-of-00002.parquet", range(20))
    file = write_parquet(tmp_path / "train-00001-of-00002.parquet", range(300))
    table = parquet.read_table(file)
    rows = table.to_pylist()
    rows[280]["image"]["bytes"] = b"no image"
    parquet.write_table(type(table).from_pylist(rows, schema=table.schema), file)
    with pytest.raises(DataError, match="train-00001-of-00002.parquet, row 280: not a readable image"):
        load(tmp_path)


def test_unlabelled_test_images_are_refused(tmp_path):
    import numpy as np
    from pyarrow import parquet

    write_parquet(tmp_path / "train.parquet", range(30))
    file = write_parquet(tmp_path / "test.parquet", range(30, 40))
    table = parquet.read_table(file)
    parquet.write_table(table.set_column(1, "label", pyarrow.array(np.full(10, -1))), file)
    with pytest.raises(DataError, match=r"label -1 of test sample 0 lies outside \[0, 10\)"):
        load(tmp_path)
