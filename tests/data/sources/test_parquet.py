import json
import re

import numpy as np
import pyarrow
import pytest
import torch
from pyarrow import parquet
from sklearn.datasets import load_digits

from image_sets import digit, encoded, positions_of, write_parquet
from selfkd.data.reading.arrow_tables import find_columns
from selfkd.data.reading.decoding import read_rgb
from selfkd.data.reading.parquet_files import ParquetTable
from selfkd.data.reading.table_images import TableImages, read_labels
from selfkd.data.sources.parquet import Parquet
from selfkd.errors import DataError, OptionError
from selfkd.runs.checkup import check


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
    with pytest.raises(OptionError, match="data.label_column is missing.* columns kind, row of .*train.parquet"):
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
    with pytest.raises(DataError, match="has no split called train; .* data.train_split=..., one of fit, held"):
        load(tmp_path)
    assert len(load(tmp_path, train_split="fit", test_split="held").test) == 20


def test_too_much_for_memory_is_refused_before_it_is_decoded(tmp_path):
    write_parquet(tmp_path / "train.parquet", range(30))
    with pytest.raises(OptionError, match="data.memory_gb=0.001 .* at least 0.0059, which the 30 images"):
        load(tmp_path, image_size=256, memory_gb=0.001, test_fraction=0.4)
    with pytest.raises(OptionError, match=r"data.memory_gb=0 .* at least 9.3e-05, which the 30 images"):
        load(tmp_path, memory_gb=0, test_fraction=0.4)


def test_the_image_size_must_be_given(tmp_path):
    write_parquet(tmp_path / "train.parquet", range(30))
    with pytest.raises(OptionError, match="data.image_size is missing.* the first image has 32x32"):
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
    digit(0).save(tmp_path / "secret.png")
    file = write_parquet(tmp_path / "train.parquet", range(30))
    table = parquet.read_table(file)
    rows = table.to_pylist()
    rows[4]["image"] = {"bytes": None, "path": str(tmp_path / "secret.png")}
    parquet.write_table(type(table).from_pylist(rows, schema=table.schema), file)
    with pytest.raises(DataError, match=r"train.parquet, row 4: not a readable image: it has no bytes"):
        load(tmp_path, test_fraction=0.4)


def test_rows_are_numbered_within_their_file(tmp_path):
    write_parquet(tmp_path / "train-00000-of-00002.parquet", range(20))
    file = write_parquet(tmp_path / "train-00001-of-00002.parquet", range(300))
    table = parquet.read_table(file)
    rows = table.to_pylist()
    rows[280]["image"]["bytes"] = b"no image"
    parquet.write_table(type(table).from_pylist(rows, schema=table.schema), file)
    with pytest.raises(DataError, match="train-00001-of-00002.parquet, row 280: not a readable image"):
        load(tmp_path)


def test_unlabelled_test_images_are_refused(tmp_path):
    write_parquet(tmp_path / "train.parquet", range(30))
    file = write_parquet(tmp_path / "test.parquet", range(30, 40))
    table = parquet.read_table(file)
    parquet.write_table(table.set_column(1, "label", pyarrow.array(np.full(10, -1))), file)
    with pytest.raises(
        DataError,
        match=r"10 of 10 images of the split test have no label .* data.test_split name other",
    ):
        load(tmp_path)
    write_parquet(tmp_path / "validation.parquet", range(40, 60))
    assert len(load(tmp_path, test_split="validation").test) == 20


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (
            lambda row: row,
            "'row' of .* has 60 different values in 60 rows, fewer than two images per class; data.label_col",
        ),
        (
            lambda row: row % 3 + 1,
            "'row' of .* must count its classes 0, 1, 2 .* no training image has 0, but some have 3",
        ),
        (lambda row: row % 3 * 10**12, "no training image has 1, but some have 1000000000000; data.label_column names"),
        (lambda row: row % 3 * 2 - 2, "no training image has 1, but some have -2"),
    ],
)
def test_numbers_that_count_no_classes_are_refused(tmp_path, column, message):
    rows = [column(row) for row in range(60)]
    file = write_parquet(tmp_path / "train.parquet", range(60), metadata=False, row=rows)
    with pytest.raises(DataError, match=message):
        load(tmp_path, label_column="row")
    report = check(str(file.parent), {"data.image_size": "32", "data.label_column": "row"})
    errors = "\n".join(map(str, report.errors))
    assert "labels: column 'row' of the split train" in errors


def test_only_what_remains_is_decoded(tmp_path, monkeypatch):
    read = []

    def noted(file, where):
        read.append(where.partition("row ")[2])
        return read_rgb(file, where)

    monkeypatch.setattr("selfkd.data.reading.arrow_tables.read_rgb", noted)
    write_parquet(tmp_path / "train.parquet", range(600))
    write_parquet(tmp_path / "test.parquet", range(600, 700))
    options = {"classes": ("digit 7", "digit 3"), "train_per_class": 20, "validation_fraction": 0.25}
    splits = load(tmp_path, memory_gb=60 * 3072 / 1e9, **options)
    assert len(read) == sum(map(len, splits.by_name.values())) < 60
    target = load_digits().target
    assert {target[row] for row in map(int, read[: len(splits.train)])} == {3, 7}
    transform = Parquet(image_size=32).image_transform()
    assert torch.equal(splits.train.images, torch.stack([transform(digit(int(row))) for row in read[:30]]))
    assert splits.train.labels.tolist() == [int(target[int(row)] == 3) for row in read[:30]]


def test_rows_can_be_taken_in_any_order(tmp_path):
    table = ParquetTable([write_parquet(tmp_path / "train.parquet", range(300))])
    columns = find_columns(table, None, None)
    labels, _ = read_labels(table, columns)
    images = TableImages.of(table, columns, labels, Parquet(image_size=32).image_transform(), 32)
    some = images.take(np.array([299, 4, 270, 4])).in_memory("rows")
    assert torch.equal(some.images, images.in_memory("rows").images[[299, 4, 270, 4]])
    assert torch.equal(some.labels, images.labels[[299, 4, 270, 4]])


def test_a_class_without_a_training_image_is_refused_unless_it_is_left_out(tmp_path):
    write_parquet(tmp_path / "train.parquet", [*positions_of(1, 12), *positions_of(2, 12)])
    write_parquet(tmp_path / "test.parquet", [*positions_of(1, 14)[12:], *positions_of(2, 14)[12:]])
    message = (
        "classes without a training image: digit 0, digit 3, digit 4, digit 5, digit 6 and 3 more; data.classes can"
    )
    with pytest.raises(DataError, match=message):
        load(tmp_path)
    report = check(str(tmp_path), {"data.image_size": "32"})
    assert any(finding.subject == "empty classes" for finding in report.errors)
    chosen = {"data.image_size": "32", "data.classes": "[digit 1,digit 2]"}
    assert not check(str(tmp_path), chosen).errors
    assert load(tmp_path, classes=("digit 1", "digit 2")).class_names == ("digit 1", "digit 2")


SHARDS = ("train-00000-of-00003", "train-00001-of-00003", "train-00002-of-00003")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            SHARDS[:1],
            "holds 1 of the 3 shards to which train-00000-of-00003.parquet belongs; 00001, 00002 are missing; ",
        ),
        (SHARDS[1:], "holds 2 of the 3 shards .*; 00000 is missing; download it$"),
        (
            ("train-0-of-999999999999",),
            "; 000000000001, 000000000002, .*, 000000000005 and 999999999993 more are missing; download them$",
        ),
        (
            (*SHARDS, "train-00003-of-00003"),
            "holds train-00003-of-00003.parquet, whose number is too large for a shard",
        ),
        ((*SHARDS, "train-00000-of-00001"), "train-00000-of-00001.* and train-00000-of-00003.* do not belong together"),
        ((*SHARDS, "train"), "do not belong together: the first one is a shard of 3"),
        ((*SHARDS, f"{SHARDS[0]}-1a2b3c"), "are the same shard of 3; remove one of them"),
    ],
)
def test_shards_that_are_missing_or_do_not_belong_together_are_refused(tmp_path, names, message):
    for name in names:
        write_parquet(tmp_path / f"{name}.parquet", range(30))
    with pytest.raises(DataError, match=message):
        load(tmp_path, test_fraction=0.4)
    report = check(str(tmp_path), {"data.image_size": "32"})
    assert "shard" in "\n".join(map(str, report.errors))


@pytest.mark.parametrize("first", [0, 1])
def test_shards_may_be_numbered_from_0_or_1_or_without_a_total(tmp_path, first):
    for number in range(first, first + 2):
        write_parquet(tmp_path / f"train-{number:05}-of-00002.parquet", range(30))
        write_parquet(tmp_path / f"test-{10**12 * number}.parquet", range(10))
    assert [len(split) for split in load(tmp_path).by_name.values()] == [60, 20]


def stored(tmp_path, image, label=None, features=None, names=("image", "label")):
    """A training split with these columns and metadata, as somebody else's program might have written them."""
    columns = [image, pyarrow.array([row % 2 for row in range(len(image))]) if label is None else label]
    table = pyarrow.Table.from_arrays(columns, names=list(names))
    if features is not None:
        text = features if isinstance(features, str) else json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": text})
    parquet.write_table(table, tmp_path / "train.parquet")


def images(kind=None, convert=bytes):
    rows = [{"bytes": convert(encoded(position)), "path": None} for position in range(20)]
    fields = {"bytes": pyarrow.binary() if kind is None else kind, "path": pyarrow.string()}
    return pyarrow.array(rows, pyarrow.struct(fields))


IMAGE, LABEL = {"_type": "Image"}, {"_type": "ClassLabel", "names": ["even", "odd"]}
DEEP = '{"info": {"features": ' + '{"a": ' * 100_000 + "1" + "}" * 100_000 + "}}"
NO_UTF8 = pyarrow.array([b"\xff"] * 20, pyarrow.binary())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"image": images(pyarrow.string(), lambda each: each.hex())}, "no column of images .*its columns are image"),
        (
            {"image": images(pyarrow.string(), lambda each: each.hex()), "features": {"image": IMAGE, "label": LABEL}},
            r"column 'image' must be a struct whose 'bytes' are an encoded image \(binary\); it is struct<byt",
        ),
        (
            {"image": images(pyarrow.list_(pyarrow.int64()), list), "features": {"image": IMAGE}},
            "column 'image' must be a struct whose 'bytes' .* it is struct<bytes: list",
        ),
        (
            {"image": images(), "label": images(), "names": ("image", "image")},
            "has 2 columns called 'image'; rename or",
        ),
        (
            {"image": images(), "features": {"photo": IMAGE, "label": LABEL}},
            "metadata name a column 'photo' of kind Image, which the table does not have; its columns are image, label",
        ),
        (
            {"image": images(), "features": {"image": IMAGE, "kind": LABEL}},
            "metadata name a column 'kind' of kind ClassLabel, which the table does not have; .* data.label_column",
        ),
        ({"image": images(), "features": DEEP}, "its Hugging Face metadata are nested too deeply to be read"),
        (
            {"image": images(), "features": {"image": IMAGE, "label": {**LABEL, "names": [["even"], None]}}},
            "give column 'label' class names that are not text",
        ),
        (
            {
                "image": pyarrow.StructArray.from_arrays(
                    [NO_UTF8, pyarrow.Array.from_buffers(pyarrow.string(), 20, NO_UTF8.buffers())], ["bytes", "path"]
                )
            },
            "rows 0 to 19: column 'image': .*decode",
        ),
    ],
)
def test_tables_of_another_form_are_refused_with_what_is_wrong(tmp_path, content, message):
    stored(tmp_path, **content)
    with pytest.raises(DataError, match=f"train.parquet.*{message}"):
        load(tmp_path, test_fraction=0.4)
    report = check(str(tmp_path), {"data.image_size": "32"})
    assert re.search(message, "\n".join(map(str, report.errors)))


def test_columns_that_metadata_do_not_know_can_be_given(tmp_path):
    stored(tmp_path, images(), features={"photo": IMAGE, "kind": LABEL, "image": IMAGE})
    assert load(tmp_path, label_column="label", test_fraction=0.4).class_names == ("0", "1")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["even", "even"], "two classes are called 'even'"),
        (["even", " "], "class 1 has no name"),
        (["even", "\ud800"], r"the class name '\\ud800' cannot be stored as text"),
    ],
)
def test_class_names_that_tell_no_classes_apart_are_refused(tmp_path, names, message):
    stored(tmp_path, images(), features={"image": IMAGE, "label": {**LABEL, "names": names}})
    with pytest.raises(DataError, match=message):
        load(tmp_path, test_fraction=0.4)
    report = check(str(tmp_path), {"data.image_size": "32"})
    assert re.search(message, "\n".join(map(str, report.errors)))
