import os
import shutil

import pytest
import torch
from PIL import Image

from image_sets import write_cells, write_folder
from selfkd.data.reading.class_folders import files_below
from selfkd.data.reading.image_files import ImageFiles
from selfkd.data.sources.folder import Folder
from selfkd.data.splits import ImageSet
from selfkd.errors import DataError, OptionError, RunError
from selfkd.recipes.reader import resolve
from selfkd.runs.train import run


def load(root, seed=0, whole_images=False, **options):
    return Folder(root=str(root), **{"image_size": 32, **options}).load(seed, whole_images)


@pytest.fixture
def unsplit(tmp_path):
    return write_folder(tmp_path / "set", 10, kind="jpg")


@pytest.fixture
def split(tmp_path):
    write_folder(tmp_path / "set" / "train", 6)
    write_folder(tmp_path / "set" / "test", 3, start=6)
    return tmp_path / "set"


def test_a_ready_split_is_taken(split):
    splits = load(split)
    assert splits.class_names == ("digit 0", "digit 1", "digit 2")
    assert splits.train.labels.bincount().tolist() == [6] * 3
    assert splits.test.labels.bincount().tolist() == [3] * 3
    assert splits.validation is None
    assert splits.origins == {"train": "the split train", "test": "the split test"}
    first = next(iter(sorted((split / "train" / "digit 0").iterdir())))
    with Image.open(first) as image:
        assert torch.equal(splits.train.images[0], Folder(image_size=32).image_transform()(image))


def test_without_a_split_one_is_held_out(unsplit):
    splits, again, other = load(unsplit), load(unsplit), load(unsplit, seed=1)
    assert splits.train.labels.bincount().tolist() == [8] * 3
    assert splits.test.labels.bincount().tolist() == [2] * 3
    assert splits.fingerprint() == again.fingerprint() != other.fingerprint()
    assert splits.origins["test"] == "0.2 of all images, stratified, drawn by seed 0"
    assert load(unsplit, test_fraction=0.5).test.labels.bincount().tolist() == [5] * 3


def test_validation_beside_test_chooses_the_epoch_and_alone_it_tests(split):
    shutil.copytree(split / "test", split / "val")
    splits = load(split)
    assert splits.selection[0] == "validation"
    assert len(splits.validation) == 9
    assert load(split, validation_fraction=0.1).fingerprint() == splits.fingerprint(), "it has one already"
    shutil.rmtree(split / "test")
    splits = load(split)
    assert splits.validation is None
    assert splits.origins["test"] == "the split val"


def test_splits_can_be_named(split):
    (split / "train").rename(split / "Fit")
    (split / "test").rename(split / "held")
    splits = load(split, train_split="Fit", test_split="held")
    assert (len(splits.train), len(splits.test)) == (18, 9)
    with pytest.raises(OptionError, match="data.test_split='hold' .* one of Fit, held"):
        load(split, train_split="Fit", test_split="hold")
    with pytest.raises(OptionError, match="data.test_split='Fit' .* another split"):
        load(split, train_split="Fit", test_split="Fit")


def test_only_a_training_split_gives_a_test_split(split):
    shutil.rmtree(split / "test")
    assert [len(part) for part in load(split, test_fraction=0.5).by_name.values()] == [9, 9]


def test_a_class_may_be_called_train(unsplit):
    (unsplit / "digit 2").rename(unsplit / "train")
    assert load(unsplit).class_names == ("digit 0", "digit 1", "train")


def test_memory_and_augmentation_decide_where_images_live(split, caplog):
    caplog.set_level("INFO", "selfkd")
    held = load(split)
    assert isinstance(load(split, whole_images=True, memory_gb=1e-5).train, ImageFiles)
    assert not caplog.messages, "the limit decided nothing"
    streamed = load(split, memory_gb=1e-5)
    assert caplog.messages == [
        "images are read during training; in memory they would take 8.3e-05 GB",
    ]
    assert isinstance(held.train, ImageSet)
    assert isinstance(streamed.train, ImageFiles)
    assert isinstance(load(split, whole_images=True).train, ImageFiles)
    for name, part in streamed.by_name.items():
        assert torch.equal(part.in_memory(name).images, held.by_name[name].images)
    assert held.fingerprint() == streamed.fingerprint()
    assert load(split, memory_gb=1e-4).train.images is not None, "27 images of 3072 bytes are 0.08 MB"


def test_a_run_is_not_continued_on_images_that_changed_places(tmp_path):
    def recipe(root):
        small = {"data.image_size": "8", "backbone.width": "1", "trainer.epochs": "1"}
        return resolve("demo/digits/resnet18/plain", {"data": "folder", "data.root": str(root), **small})

    root = write_folder(tmp_path / "set", 10, kind="bmp")
    folder = run(recipe(root), tmp_path, show_progress=False)
    folder.scores_file.unlink()  # as if it had been killed before its end
    shutil.copytree(root, tmp_path / "copy", copy_function=shutil.copyfile)
    one, other = (min((root / name).iterdir()) for name in ("digit 0", "digit 1"))
    assert one.stat().st_size == other.stat().st_size
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    with pytest.raises(RunError, match="was trained on other data than data=folder gives now"):
        run(recipe(root), tmp_path, show_progress=False)
    copied = run(recipe(tmp_path / "copy"), tmp_path, show_progress=False)
    assert copied.scores_file.exists(), "a copy is the same data"


def test_images_of_many_sizes_are_scaled_and_cut(bccd_root, tmp_path):
    root = write_cells(bccd_root, tmp_path / "cells", 30, {"RBC": 40, "WBC": 12, "Platelets": 12})
    splits = load(root, image_size=24, resize=28, test_fraction=0.25)
    assert splits.class_names == ("Platelets", "RBC", "WBC")
    assert splits.train.images.shape[1:] == (3, 24, 24)
    assert splits.train.labels.bincount().tolist() == [9, 30, 9], "the imbalance of the whole"
    assert splits.train.images.float().std() > 10


def test_the_image_size_must_be_given_and_the_first_image_tells_which(unsplit):
    with pytest.raises(OptionError, match="data.image_size is missing.* the first image has 32x32"):
        load(unsplit, image_size=None)
    with pytest.raises(OptionError, match="data.image_size is missing"):
        Folder().image_transform()


def test_layouts_that_do_not_fit_are_named(split, unsplit, tmp_path):
    with pytest.raises(OptionError, match="data.root is missing"):
        Folder(image_size=32).load(0)
    with pytest.raises(DataError, match="nowhere' is not a folder"):
        load(tmp_path / "nowhere")
    (tmp_path / "labels.csv").write_text("path,label\n")
    with pytest.raises(DataError, match="is not a folder; for this CSV file .* data=csv data.root=.*labels.csv$"):
        load(tmp_path / "labels.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty holds no folder"):
        load(tmp_path / "empty")


def test_splits_of_other_classes_are_refused(split):
    (split / "test" / "digit 1").rename(split / "test" / "digit 7")
    with pytest.raises(
        DataError, match=r"test has other .* \(digit 1 \(only in training\), digit 7 \(only in test\)\)"
    ):
        load(split)


def test_a_flat_split_is_no_class(split):
    for name in ("train", "test"):
        for folder in list((split / name).iterdir()):
            for file in folder.iterdir():
                file.rename(split / name / f"{folder.name}-{file.name}")
            folder.rmdir()
    with pytest.raises(DataError, match="train holds no folder, only image files .18.; sort them into .*<class>/"):
        load(split)


def test_an_empty_class_and_a_damaged_file_are_named(unsplit):
    file = next((unsplit / "digit 1").iterdir())
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(DataError, match=rf"{file.name}: not a readable image"):
        load(unsplit)
    shutil.rmtree(unsplit / "digit 1")
    (unsplit / "digit 1").mkdir()
    with pytest.raises(DataError, match=r"class folders without an image file: 1; .* \(digit 1\)"):
        load(unsplit)


def test_linked_folders_are_followed(split, tmp_path):
    whole = load(split)
    (split / "train" / "digit 1").rename(tmp_path / "elsewhere")
    (split / "train" / "digit 1").symlink_to(tmp_path / "elsewhere")
    (split / "test").rename(tmp_path / "tests")
    (split / "test").symlink_to(tmp_path / "tests")
    assert load(split).fingerprint() == whole.fingerprint()


def test_a_class_linked_to_another_is_refused(unsplit):
    (unsplit / "digit 7").symlink_to(unsplit / "digit 1")
    with pytest.raises(DataError, match="digit 7 and .*digit 1 are the same folder, by a link"):
        load(unsplit)


def test_a_split_linked_into_the_other_is_refused(split):
    shutil.rmtree(split / "test" / "digit 2")
    (split / "test" / "digit 2").symlink_to(split / "train" / "digit 2")
    with pytest.raises(DataError, match="test/digit 2 and .*train/digit 2 are the same folder"):
        load(split)
    shutil.rmtree(split / "test")
    (split / "test").symlink_to("train")
    with pytest.raises(DataError, match="test/digit 0 and .*train/digit 0 are the same folder"):
        load(split)


def test_folders_linked_in_a_circle_are_refused(unsplit):
    for label in range(3):  # followed, they would be listed for ever
        for name in ("around", "again"):
            (unsplit / f"digit {label}" / name).symlink_to(unsplit)
    with pytest.raises(DataError, match="again is linked to .*set, a folder above it"):
        load(unsplit)


def test_a_class_of_one_image_can_give_none(unsplit):
    for file in sorted((unsplit / "digit 1").iterdir())[1:]:
        file.unlink()
    with pytest.raises(OptionError, match="data.test_fraction=0.2 .* every class must give an image and keep one"):
        load(unsplit)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 4}, "data.image_size=4"),
        ({"image_size": 32, "resize": 24}, "data.resize=24 .* at least data.image_size=32"),
        ({"test_fraction": 0}, "data.test_fraction=0 .* between 0 and 1"),
        ({"memory_gb": -1}, "data.memory_gb=-1"),
    ],
)
def test_values_out_of_range_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        Folder(**options)


@pytest.mark.parametrize("place", ["", "train"])
def test_a_folder_that_must_not_be_read_is_named(tmp_path, monkeypatch, place):
    write_folder(tmp_path / "train", 4)
    write_folder(tmp_path / "test", 2, start=4)
    scandir, closed = os.scandir, str(tmp_path / place)

    def guarded(path="."):
        if str(path) == closed:
            raise PermissionError(13, "Permission denied", closed)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)  # not by its mode: whoever runs the tests as root may read everything
    with pytest.raises(DataError, match=f"{closed} cannot be listed: Permission denied"):
        Folder(root=str(tmp_path), image_size=16).load(seed=0)


def test_a_folder_that_goes_while_its_set_is_listed_holds_nothing(unsplit, monkeypatch):
    going = unsplit / "digit 0" / "going"
    shutil.copytree(unsplit / "digit 1", going)
    whole = os.scandir

    def scandir(path):
        if str(path) == str(going):  # it may be a descriptor, too
            shutil.rmtree(going)
        return whole(path)

    monkeypatch.setattr(os, "scandir", scandir)
    files = [*files_below(unsplit / "digit 0"), *files_below(unsplit / "gone")]
    assert not going.exists()
    assert len(files) == 10


def test_listing_stops_at_other_file_systems_below_a_class_folder(unsplit, monkeypatch):
    (unsplit / "digit 1" / "disk").mkdir()
    (unsplit / "digit 2").rename(unsplit.parent / "elsewhere")
    (unsplit / "digit 2").symlink_to(unsplit.parent / "elsewhere")
    real = os.stat

    def on_two_disks(path, **how):
        status = real(path, **how)
        if str(path).endswith(("disk", "digit 2")):
            fields = list(status)
            fields[2] += 1  # st_dev
            return os.stat_result(fields)
        return status

    monkeypatch.setattr(os, "stat", on_two_disks)
    with pytest.raises(DataError, match="digit 1/disk lies on another file system than .*digit 1 and is not listed"):
        load(unsplit)
    (unsplit / "digit 1" / "disk").rmdir()
    assert len(load(unsplit).class_names) == 3, "a class folder itself may lie elsewhere"


def test_a_folder_with_far_more_than_images_is_not_listed_to_its_end(unsplit, monkeypatch):
    monkeypatch.setattr("selfkd.data.reading.class_folders._MOST_OTHERS", 40)
    for number in range(15):
        for label in range(3):
            (unsplit / f"digit {label}" / f"{number}.txt").touch()
    with pytest.raises(DataError, match="holds more than 40 files and folders that are not images, beside 30 images;"):
        load(unsplit)
    for number in range(5):
        shutil.copy(next((unsplit / "digit 0").glob("*.jpg")), unsplit / "digit 0" / f"more {number}.jpg")
        (unsplit / "digit 1" / f"{number}.txt").unlink()
        (unsplit / "digit 2" / f"{number}.txt").unlink()
    assert load(unsplit), "a note beside every image is no reason"


def test_links_to_a_folder_that_is_listed_do_not_multiply_it(unsplit):
    inner = unsplit / "digit 1" / "more"
    inner.mkdir()
    (unsplit / "digit 1" / "again").symlink_to(inner)
    with pytest.raises(DataError, match="more and .*again are the same folder, by a link"):
        load(unsplit)
