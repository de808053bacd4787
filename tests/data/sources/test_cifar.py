import pytest
import torch
from PIL import Image

from selfkd.data.sources.cifar import CIFAR100
from selfkd.errors import DataError, OptionError


def test_the_hubs_layout_is_read(digits_as_cifar100):
    splits = CIFAR100(root=str(digits_as_cifar100)).load(seed=0)
    assert splits.train.images.shape == (60, 3, 32, 32)
    assert splits.test.images.shape == (20, 3, 32, 32)
    assert splits.class_names == tuple(f"digit {digit}" for digit in range(10))
    assert splits.train.labels[:5].tolist() == [0, 1, 2, 3, 4], "rows keep their order, which is the sample index"


def test_a_sub_folder_data_is_found(digits_as_cifar100, tmp_path):
    parent = tmp_path / "set"
    parent.mkdir()
    digits_as_cifar100.rename(parent / "data")
    assert len(CIFAR100(root=str(parent)).load(seed=0).train) == 60


def test_the_real_thing(cifar100_root):
    splits = CIFAR100(root=str(cifar100_root)).load(seed=0)
    assert len(splits.train) == 50_000
    assert splits.train.labels.bincount().tolist() == [500] * 100
    assert splits.test.labels.bincount().tolist() == [100] * 100
    assert splits.class_names[:2] == ("apple", "aquarium_fish")
    mean = splits.train.images.float().mean((0, 2, 3)) / 255
    assert mean.tolist() == pytest.approx(CIFAR100().mean, abs=0.02)


def test_a_missing_or_empty_folder_is_named(tmp_path):
    with pytest.raises(OptionError, match="data.root is missing"):
        CIFAR100().load(seed=0)
    with pytest.raises(DataError, match="nowhere' is not a folder"):
        CIFAR100(root=str(tmp_path / "nowhere")).load(seed=0)
    with pytest.raises(DataError, match=r"no cifar-100-python, or train-\*.parquet .*; data.download=true"):
        CIFAR100(root=str(tmp_path)).load(seed=0)


def test_a_truncated_file_is_named(digits_as_cifar100):
    file = digits_as_cifar100 / "train-00001-of-00002.parquet"
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(DataError, match="train-00001-of-00002.parquet.*cannot be read as Parquet"):
        CIFAR100(root=str(digits_as_cifar100)).load(seed=0)


def rewrite(root, name, change):
    from pyarrow import parquet

    table = parquet.read_table(root / name)
    rows = table.to_pylist()
    change(rows)
    parquet.write_table(type(table).from_pylist(rows, schema=table.schema), root / name)


def test_an_unreadable_image_is_named_with_its_row(digits_as_cifar100):
    def damage(rows):
        rows[3]["img"]["bytes"] = rows[3]["img"]["bytes"][:50]

    rewrite(digits_as_cifar100, "test-00000-of-00001.parquet", damage)
    with pytest.raises(DataError, match="test-00000-of-00001.parquet, row 3: not a readable image"):
        CIFAR100(root=str(digits_as_cifar100)).load(seed=0)


def test_labels_outside_the_classes_are_named_with_their_sample(digits_as_cifar100):
    def damage(rows):
        rows[4]["fine_label"] = 10

    rewrite(digits_as_cifar100, "train-00000-of-00002.parquet", damage)
    with pytest.raises(DataError, match=r"labels outside \[0, 10\): 1 \(train, row 4, label 10\)"):
        CIFAR100(root=str(digits_as_cifar100)).load(seed=0)


def test_one_class_is_too_few(digits_as_cifar100):
    def damage(rows):
        for row in rows:
            row["fine_label"] = 3

    for name in ("train-00000-of-00002.parquet", "train-00001-of-00002.parquet"):
        rewrite(digits_as_cifar100, name, damage)
    with pytest.raises(DataError, match="all 60 training samples are of one class"):
        CIFAR100(root=str(digits_as_cifar100)).load(seed=0)


def test_other_columns_are_named(digits_as_cifar100):
    from pyarrow import parquet

    file = digits_as_cifar100 / "train-00000-of-00002.parquet"
    table = parquet.read_table(file).rename_columns(["image", "label"])
    parquet.write_table(table, file)
    with pytest.raises(DataError, match=r"\['image', 'label'\]; 'img' and 'fine_label' are needed"):
        CIFAR100(root=str(digits_as_cifar100)).load(seed=0)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("fine_label", [f"class {i}" for i in range(30)], "must hold whole numbers without gaps; it is string"),
        ("fine_label", [1.5] * 30, "must hold whole numbers without gaps; it is double"),
        (
            "fine_label",
            [None, *range(29)],
            r"1 of 60 images of the split train have no label .* 'fine_label' \(.*row 0\)",
        ),
        ("img", [b"bytes"] * 30, "must be a struct whose 'bytes' are an encoded image .binary.; it is binary"),
    ],
)
def test_columns_of_another_type_are_refused(digits_as_cifar100, column, values, message):
    import pyarrow
    from pyarrow import parquet

    file = digits_as_cifar100 / "train-00000-of-00002.parquet"
    table = parquet.read_table(file)
    changed = table.set_column(table.column_names.index(column), column, pyarrow.array(values))
    parquet.write_table(changed, file)
    with pytest.raises(DataError, match=message):
        CIFAR100(root=str(digits_as_cifar100)).load(seed=0)


def test_without_names_in_the_metadata_classes_are_numbered(digits_as_cifar100):
    from pyarrow import parquet

    for file in digits_as_cifar100.glob("*.parquet"):
        parquet.write_table(parquet.read_table(file).replace_schema_metadata({"huggingface": "[1]"}), file)
    assert CIFAR100(root=str(digits_as_cifar100), classes=10).load(seed=0).class_names == tuple("0123456789")


def test_any_image_file_becomes_32_pixels_in_colour():
    image = Image.new("L", (100, 60), 128)
    tensor = CIFAR100().inference_transform()(image)
    assert tensor.shape == (3, 32, 32)
    assert torch.allclose(tensor[0], torch.full((32, 32), (128 / 255 - 0.4914) / 0.2023), atol=1e-5)
