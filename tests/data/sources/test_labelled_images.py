import logging

import pytest
import torch

from image_sets import digit, write_folder
from selfkd.data.reading.resizing import centre_square
from selfkd.data.sources.csv_file import CsvFile
from selfkd.data.sources.labelled_images import read_labelled_images
from selfkd.errors import DataError, UserError

NAMES = ("digit 2", "digit 0", "digit 7", "digit 1")


def read(folder):
    return read_labelled_images(folder, NAMES, centre_square(16, 16, "bilinear"), 16)


def test_labels_are_those_of_the_network_in_whatever_order_its_classes_are(tmp_path):
    images = read(write_folder(tmp_path / "photos", 2))
    assert images.labels.tolist() == [1, 1, 3, 3, 0, 0], "the folders in sorted order; none of them is digit 7"
    assert images.input_size == (3, 16, 16)
    first = images.path(0)
    assert first.parent.name == "digit 0"
    expected = centre_square(16, 16, "bilinear")(digit(int(first.stem)))
    assert torch.equal(images.transformed(0), expected)


def test_a_single_class_is_enough(tmp_path):
    assert read(write_folder(tmp_path / "photos", 3, digits=[7])).labels.tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("splits", "taken"),
    [
        (["train", "val", "test"], "test"),
        (["Testing", "valid"], "Testing"),
        (["val"], "val"),
        (["train", "dev"], "dev"),
    ],
)
def test_of_splits_the_one_that_tests_is_taken_and_the_log_says_so(tmp_path, splits, taken, caplog):
    for count, name in enumerate(splits, start=1):
        write_folder(tmp_path / "photos" / name, count)
    with caplog.at_level(logging.INFO, "selfkd"):
        images = read(tmp_path / "photos")
    assert len(images) == 3 * (1 + splits.index(taken))
    assert f"photos holds splits; its split {taken} is evaluated" in caplog.text


def test_a_class_may_be_called_like_a_split(tmp_path):
    (tmp_path / "test").mkdir()
    digit(0).save(tmp_path / "test" / "0.png")
    images = read_labelled_images(tmp_path, ("train", "test"), centre_square(16, 16, "bilinear"), 16)
    assert images.labels.tolist() == [1]


def unknown(folder):
    write_folder(folder, 1, digits=[0, 5])
    return r"holds folders that are no class of the run \(digit 5\); the run's classes are digit 2, digit 0, digit 7"


def train_alone(folder):
    write_folder(folder / "train", 1)
    return r"no class of the run \(train\)"


def no_folders(folder):
    folder.mkdir()
    digit(0).save(folder / "0.png")
    return "holds no folder; images must be sorted into one folder per class"


def empty_class(folder):
    write_folder(folder, 1)
    (folder / "digit 7").mkdir()
    return r"class folders without an image file: 1; .*\(digit 7\)"


def same_class_twice(folder):
    write_folder(folder, 1)
    (folder / "digit 7").symlink_to(folder / "digit 0")
    return "are the same folder, by a link"


def no_such_folder(folder):
    return "is not a folder; expected one that holds a folder of images for each class"


@pytest.mark.parametrize("make", [unknown, train_alone, no_folders, empty_class, same_class_twice, no_such_folder])
def test_what_cannot_be_evaluated_is_named(tmp_path, make):
    message = make(tmp_path / "photos")
    with pytest.raises(DataError, match=message):
        read(tmp_path / "photos")


def write_table(folder, rows):
    (folder / "labels.csv").write_text("\n".join(rows))
    return folder / "labels.csv"


def test_a_table_gives_its_test_split(tmp_path, caplog):
    write_folder(tmp_path, 2)
    files = sorted(tmp_path.rglob("*.png"))
    rows = [f"{file.relative_to(tmp_path)},{file.parent.name}" for file in files]
    assert read(write_table(tmp_path, ["file,class", *rows])).labels.tolist() == [1, 1, 3, 3, 0, 0]
    split = [f"{row},{'val' if at % 2 else 'train'}" for at, row in enumerate(rows)]
    with caplog.at_level(logging.INFO, "selfkd"):
        assert read(write_table(tmp_path, ["file,class,split", *split])).labels.tolist() == [1, 3, 0]
    assert "labels.csv has splits; its split val is evaluated" in caplog.text
    with pytest.raises(DataError, match="has no split called test or validation, but train"):
        read(write_table(tmp_path, ["file,class,split", *split[::2]]))
    with pytest.raises(DataError, match=r"no class of the run; the run's classes are digit 2.*\(line 3: 'cat'\)"):
        read(write_table(tmp_path, ["file,class", rows[0], f"{files[1].relative_to(tmp_path)},cat"]))
    with pytest.raises(DataError, match=r"that are not in .*: 1; .*\(line 2: gone.png\)"):
        read(write_table(tmp_path, ["file,class", "gone.png,digit 2"]))
    with pytest.raises(DataError, match=r"1; they are relative to the folder of the CSV file"):
        read(write_table(tmp_path, ["file,class", "gone.png,digit 2"]))
    with pytest.raises(DataError, match=r"none of 'bild', 'class' is one of path, .*data.path_column=\.\.\."):
        read(write_table(tmp_path, ["bild,class", "0.png,digit 2"]))


def test_a_table_has_the_columns_and_the_image_folder_of_the_run(tmp_path):
    images = write_folder(tmp_path / "images", 1)
    files = sorted(images.rglob("*.png"))
    rows = [f"{file.relative_to(images)} ,{file.parent.name} " for file in files]  # spaces at the ends do not count
    table = write_table(tmp_path, ["bild,class", *rows])

    def of_run(root):
        columns = CsvFile(path_column="bild", image_root=str(root))
        return read_labelled_images(table, NAMES, centre_square(16, 16, "bilinear"), 16, columns)

    assert of_run(images).labels.tolist() == [1, 3, 0]
    with pytest.raises(DataError, match=r"that are not in .*nowhere: 3; data.image_root names their folder"):
        of_run(tmp_path / "nowhere")


class Named(list):
    classes = ("digit 1", "digit 5", "digit 0")


def test_a_dataset_gives_labels_by_the_names_of_its_classes_or_by_their_numbers():
    assert read(Named([(digit(0), 2), (digit(1), 0)])).labels.tolist() == [1, 3]
    assert read([(digit(0), 2), (digit(1), 0)]).labels.tolist() == [2, 0]
    with pytest.raises(DataError, match=r"labels that are no class of the run \(digit 5\)"):
        read(Named([(digit(0), 2), (digit(1), 1)]))
    with pytest.raises(DataError, match=r"labels that are no class of the run \(4\)"):
        read([(digit(0), 4), (digit(1), 0)])
    with pytest.raises(DataError, match="the Dataset list is empty"):
        read([])


def test_a_path_that_is_too_long_is_refused():
    with pytest.raises(UserError, match="short enough for this system"):
        read("x" * 300)
