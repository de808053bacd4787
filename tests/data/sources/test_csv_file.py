import os

import pytest
import torch

from image_sets import write_folder
from selfkd.data.doctor.checking import check_source
from selfkd.data.reading.image_files import ImageFiles
from selfkd.data.sources.csv_file import CsvFile
from selfkd.data.sources.folder import Folder
from selfkd.errors import DataError, OptionError


@pytest.fixture
def images(tmp_path):
    return write_folder(tmp_path / "images", 10)


@pytest.fixture
def table(images):
    return write(images.parent / "labels.csv", rows_of(images))


def rows_of(images):
    files = sorted(images.rglob("*.png"))
    return [("path", "label"), *((str(file.relative_to(images.parent)), file.parent.name) for file in files)]


def write(file, rows, delimiter=",", encoding="utf-8"):
    file.write_text("".join(delimiter.join(row) + "\n" for row in rows), encoding=encoding)
    return file


def load(file, whole_images=False, **options):
    return CsvFile(root=str(file), **{"image_size": 32, **options}).load(0, whole_images)


def test_a_table_gives_the_images_of_the_folder(images, table):
    splits = load(table)
    assert splits.class_names == ("digit 0", "digit 1", "digit 2")
    folder = Folder(root=str(images), image_size=32).load(0)
    for name in ("train", "test"):
        assert torch.equal(splits.by_name[name].images, folder.by_name[name].images)
        assert torch.equal(splits.by_name[name].labels, folder.by_name[name].labels)
    assert isinstance(load(table, whole_images=True).train, ImageFiles)
    assert load(table, memory_gb=0).fingerprint() == splits.fingerprint()


@pytest.mark.parametrize(("delimiter", "encoding"), [(";", "utf-8"), ("\t", "utf-8-sig"), (", ", "utf-8")])
def test_what_spreadsheets_write_is_read(images, table, delimiter, encoding):
    rows = [("Label", "FILE"), *((label, path) for path, label in rows_of(images)[1:])]
    other = write(table.with_name("other.csv"), rows, delimiter, encoding)
    assert load(other).fingerprint() == load(table).fingerprint()


def test_quoted_labels_may_hold_anything(images, table):
    names = {"digit 0": '"a, ""b"""', "digit 1": '"two\nlines"', "digit 2": "über"}
    write(table, [(path, names.get(label, label)) for path, label in rows_of(images)])
    assert load(table).class_names == ('a, "b"', "two\nlines", "über")


def test_columns_and_folder_can_be_named(images, table):
    rows = [
        ("where", "path", "what"),
        *((path.removeprefix("images/"), "-", label) for path, label in rows_of(images)[1:]),
    ]
    other = images.parent / "elsewhere" / "labels.csv"
    other.parent.mkdir()
    write(other, rows)
    options = {"path_column": "where", "label_column": "what", "image_root": str(images)}
    assert torch.equal(load(other, **options).train.images, load(table).train.images)
    absolute = [("path", "label"), *((str(images.parent / path), label) for path, label in rows_of(images)[1:])]
    assert torch.equal(load(write(other, absolute)).train.images, load(table).train.images)
    with pytest.raises(
        DataError, match="none of 'where', 'path', 'what' is one of label, class, .*data.label_column=..."
    ):
        load(write(other, rows))
    with pytest.raises(OptionError, match="data.path_column='file' .* has this column not at all"):
        load(table, path_column="file")


def test_a_column_of_splits_divides_the_images(images, table):
    splits = ["train", "train", "Train", "val", "test"]
    rows = [(*row, splits[at % 3 if at % 3 < 2 else 3 + at % 2]) for at, row in enumerate(rows_of(images)[1:])]
    write(table, [("path", "label", "split"), *rows])
    sizes = {name: len(split) for name, split in load(table).by_name.items()}
    assert sizes == {"train": 20, "validation": 5, "test": 5}
    renamed = [(path, label, {"train": "fit", "val": "fit", "test": "held"}[split]) for path, label, split in rows]
    write(table, [("path", "label", "split"), *renamed])
    assert len(load(table, train_split="fit", test_split="held").train) == 25
    with pytest.raises(DataError, match="has no split called train"):
        load(table)
    write(table, rows_of(images))
    with pytest.raises(
        OptionError, match="data.test_split='held' .*has no column split; its columns are 'path', 'label'"
    ):
        load(table, test_split="held")


def broken(images, table, change):
    rows = rows_of(images)
    write(table, change(rows) or rows)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda rows: rows.append(("images/gone.png", "cat")),
            r"that are not in .*: 1; .* \(line 32: images/gone.png\)",
        ),
        (lambda rows: rows.append(("images", "cat")), r"that are not in .*: 1; .* \(line 32: images\)"),
        (
            lambda rows: rows.insert(3, ("images/a.png",)),
            r"cannot be used: 1 \(line 4: number of fields: 1 instead of 2\)",
        ),
        (
            lambda rows: rows.insert(3, ("a", "b", "c")),
            r"cannot be used: 1 \(line 4: number of fields: 3 instead of 2\)",
        ),
        (lambda rows: rows.insert(2, ("images/a.png", " ")), r"cannot be used: 1 \(line 3: no label\)"),
        (lambda rows: rows.insert(2, ("", "")), r"cannot be used: 1 \(line 3: no path and no label\)"),
        (
            lambda rows: rows.append((rows[1][0], "cat")),
            r"two labels: 1; .*\(lines 2 and 32: .*'digit 0' and 'cat'",
        ),
        (lambda rows: rows.append((f"images/../{rows[1][0]}", "cat")), "with two labels: 1"),
        (lambda rows: rows.insert(2, ('"images/a.png', "cat")), "line 3: not readable as CSV: unexpected end of data"),
        (lambda rows: rows[:1], "has no rows below its first line"),
        (lambda rows: rows[:11], "all 10 training samples are of one class"),
    ],
)
def test_mistakes_in_the_table_are_named_with_their_lines(images, table, change, message):
    broken(images, table, change)
    with pytest.raises(DataError, match=message):
        load(table)


def test_a_file_that_is_no_table_is_refused(images, table):
    write(table, [*rows_of(images), ("images/ü.png", "x")], encoding="latin-1")
    with pytest.raises(DataError, match=r"labels.csv, line 32: not text in UTF-8; save the file as CSV in UTF-8"):
        load(table)
    with pytest.raises(DataError, match="is not a file; .*for this folder, write data=folder data.root=.*images$"):
        load(images)
    with pytest.raises(OptionError, match="data.root is missing.*the CSV file"):
        CsvFile(image_size=32).load(0)
    os.mkfifo(images / "pipe")
    with pytest.raises(DataError, match="is not a file"):
        load(images / "pipe")


def test_a_column_that_stands_twice_is_refused(table):
    table.write_text("path,label,label\na.png,x,y\n")
    with pytest.raises(OptionError, match="data.label_column='label' .* has this column twice"):
        load(table)


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_an_empty_file_is_named(table, text):
    table.write_text(text)
    with pytest.raises(DataError, match="labels.csv is empty; its first line must name the columns, for example path"):
        load(table)


def test_a_file_without_names_of_columns_is_told_to_add_them(images, table):
    write(table, rows_of(images)[1:])
    with pytest.raises(
        DataError, match="but none of 'images/.*' is one of path, .*add a first line such as path,label"
    ):
        load(table)


def test_the_doctor_reports_all_mistakes_of_a_table(images, table):
    rows = rows_of(images)
    rows += [("images/gone.png", "cat"), (rows[1][0], "dog"), ("x",)]
    write(table, rows)
    _, findings = check_source(CsvFile(root=str(table)), 0)
    errors = {finding.subject: finding.where for finding in findings if finding.severity == "error"}
    assert errors["rows"] == ("line 34: number of fields: 1 instead of 2",)
    assert errors["missing files"] == ("line 32: images/gone.png",)
    assert errors["labels"] == (f"lines 2 and 33: {rows[1][0]} is 'digit 0' and 'dog'",)
