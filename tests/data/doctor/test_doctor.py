"""The data doctor on real images: healthy sets give no error, and each thing that was broken is found by name."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import compute, parquet

from image_sets import digit, encoded, write_cells, write_folder, write_parquet
from selfkd.cli import main
from selfkd.errors import DataError, OptionError, RecipeError
from selfkd.recipes.reader import resolve
from selfkd.runs.checkup import check, recognised
from selfkd.runs.train import run


def found(report, subject, severity=None):
    """Messages and places of a subject's findings, as one text."""
    return "\n".join(
        "\n".join((str(finding), *finding.where))
        for finding in report.findings
        if finding.subject == subject and severity in (None, finding.severity)
    )


def severities(report):
    return {finding.severity for finding in report.findings}


def check_folder(root, *arguments, quick=False):
    return check(str(root), {"data.image_size": "32", **dict(each.split("=") for each in arguments)}, quick)


@pytest.fixture
def split(tmp_path):
    """Three classes, 12 training and 4 test images each, none twice."""
    write_folder(tmp_path / "set" / "train", 12)
    write_folder(tmp_path / "set" / "test", 4, start=12)
    return tmp_path / "set"


def first(folder):
    return min(folder.iterdir())


def test_healthy_images_give_no_error_and_say_how_to_train(split):
    report = check_folder(split)
    assert severities(report) <= {"note", "warning"}
    assert report.layout.endswith("set looks like image files in class folders (data=folder)")
    assert (report.num_classes, report.splits) == (3, {"train": 36, "test": 12})
    assert not found(report, "duplicates")
    assert not found(report, "colours")
    assert "all are 32x32" in found(report, "image sizes", "note")
    assert f"data.root={split}" in report.text()
    assert json.loads(json.dumps(report.to_json()))["trainable"] is True


def test_unreadable_truncated_and_empty_files_are_named_each_with_its_reason(split):
    truncated, text, empty, moved = (split / "train" / "digit 1" / f"{name}.jpg" for name in ("cut", "text", "0", "mv"))
    digit(100).save(truncated, quality=95)
    truncated.write_bytes(truncated.read_bytes()[:-200])
    with Image.open(truncated) as header:
        assert header.size == (32, 32), "the header is whole: only decoding tells"
    text.write_text("not an image")
    empty.write_bytes(b"")
    moved.symlink_to(split / "nowhere.jpg")
    report = check_folder(split)
    errors = found(report, "unreadable images", "error")
    assert "images that cannot be decoded: 4;" in errors
    assert "train/digit 1/cut.jpg: image file is truncated" in errors
    assert "train/digit 1/text.jpg: it is no image" in errors
    assert "train/digit 1/0.jpg: it is no image" in errors
    assert "train/digit 1/mv.jpg: No such file" in errors
    assert report.to_json()["trainable"] is False


def test_a_pipe_is_named_and_not_waited_for(split):
    os.mkfifo(split / "train" / "digit 1" / "pipe.png")
    assert "train/digit 1/pipe.png: it is not a regular file" in found(
        check_folder(split), "unreadable images", "error"
    )


def test_a_data_set_is_listed_once(split, monkeypatch):
    walked, walk = [], os.walk
    monkeypatch.setattr(os, "walk", lambda top, **options: walked.append(top) or walk(top, **options))
    assert "error" not in severities(check_folder(split))
    assert len(walked) == len(set(walked)) == 6


def test_folders_that_must_not_be_read_are_named(split, monkeypatch):
    inner = split / "train" / "digit 0" / "more"
    inner.mkdir()
    closed = inner

    def forbid(function):
        def guarded(path=".", **how):
            if path in (closed, str(closed)):
                raise PermissionError(13, "Permission denied", str(path))
            return function(path, **how)

        return guarded

    # Not by their mode: whoever runs the tests as root may read everything.
    monkeypatch.setattr(os, "scandir", forbid(os.scandir))
    monkeypatch.setattr(os, "listdir", forbid(os.listdir))
    assert "train/digit 0/more" in found(check_folder(split), "layout", "error")
    closed = split / "test"
    assert f"{closed} cannot be listed: Permission denied" in found(check_folder(split), "layout", "error")
    closed = split
    assert f"{closed} cannot be listed: Permission denied" in found(check_folder(split), "layout", "error")
    monkeypatch.setattr(os, "stat", forbid(os.stat))
    with pytest.raises(DataError, match="set cannot be read: .*Permission denied"):
        check_folder(split)


def test_files_that_training_leaves_out_are_named(split):
    (split / "train" / "digit 0" / "notes.txt").write_text("seen in May")
    digit(3).save(split / "train" / "digit 0" / "moving.gif")
    (split / "train" / "digit 0" / "phone.HEIC").write_bytes(b"as telephones save photographs")
    (split / "train" / "digit 0" / "paper.pdf").write_bytes(b"%PDF-1.4")
    report = check_folder(split)
    assert "digit 0/notes.txt" in found(report, "other files", "note")
    assert "digit 0/paper.pdf" in found(report, "other files", "note"), "PIL only writes them"
    assert "digit 0/moving.gif" in found(report, "other files", "warning")
    assert "digit 0/phone.HEIC" in found(report, "other files", "warning")
    assert not report.errors


def test_empty_and_tiny_classes_are_named(split):
    (split / "train" / "digit 9").mkdir()
    (split / "test" / "digit 9").mkdir()
    (split / "train" / ".ipynb_checkpoints").mkdir()
    for file in sorted((split / "train" / "digit 2").iterdir())[3:]:
        file.unlink()
    report = check_folder(split)
    errors = found(report, "empty classes", "error")
    assert "train/digit 9" in errors
    assert "test/digit 9" in errors
    assert ".ipynb_checkpoints" not in errors, "hidden folders are no classes, as in training"
    assert "digit 2: 3" in found(report, "tiny classes", "warning")
    assert "4.0 times as many" in found(report, "class imbalance", "note")


def test_a_class_that_cannot_give_a_test_image_is_an_error(tmp_path):
    root = write_folder(tmp_path / "set", 12)
    for file in sorted((root / "digit 1").iterdir())[1:]:
        file.unlink()
    report = check_folder(root)
    assert "data.test_fraction=0.2 is not allowed" in found(report, "loading", "error")


def test_classes_of_only_one_split_are_named(split):
    (split / "test" / "digit 1").rename(split / "test" / "Digit 1")
    (split / "test" / "digit 2").rename(split / "test" / "seven")
    errors = found(check_folder(split), "classes", "error")
    for expected in (
        "2 only in training",
        "digit 1 (only in training)",
        "seven (only in test)",
        "differ only in capit",
    ):
        assert expected in errors


def flatten(folder):
    for inner in list(folder.iterdir()):
        for file in inner.iterdir():
            file.rename(folder / f"{inner.name}-{file.name}")
        inner.rmdir()


def test_flat_validation_is_told_from_class_folders(split):
    (split / "test").rename(split / "val")
    flatten(split / "val")
    report = check_folder(split)
    assert "val holds no folder, only image files (12); sort them" in found(report, "layout", "error")
    assert "ImageNet's validation archive unpacks like this" in found(
        check_folder(split, "data=imagenet"), "layout", "error"
    )


def test_flat_tiny_imagenet_validation_is_told_from_class_folders(split):
    (split / "test").rename(split / "images")
    flatten(split / "images")
    (split / "val").mkdir()
    (split / "images").rename(split / "val" / "images")
    assert "as Tiny-ImageNet's validation images lie" in found(check_folder(split), "layout", "error")
    (split / "wnids.txt").write_text("")
    report = check(str(split))
    assert "data=tiny_imagenet" in report.layout
    assert "val_annotations.txt is missing" in found(report, "layout", "error")
    rows = [f"{file.name}\t{file.name.partition('-')[0]}\t0\t0\t1\t1" for file in (split / "val" / "images").iterdir()]
    (split / "val" / "val_annotations.txt").write_text("\n".join(rows))
    report = check(str(split))
    assert not report.errors
    assert report.splits == {"train": 36, "val": 12}
    assert "val_annotations.txt has them" in found(check_folder(split, "data=folder"), "layout", "error")


def test_linked_folders_are_errors(split):
    (split / "train" / "digit 1" / "around").symlink_to(split / "train")
    shutil.rmtree(split / "test" / "digit 2")
    (split / "test" / "digit 2").symlink_to(split / "train" / "digit 2")
    errors = found(check_folder(split), "layout", "error")
    assert "train/digit 1/around is linked to" in errors
    assert "test/digit 2 and " in errors
    assert "train/digit 2 are the same folder, by a link" in errors


def test_other_wrong_folders_say_what_they_look_like(split, tmp_path):
    report = check_folder(split / "train" / "digit 0")
    errors = found(report, "layout", "error")
    assert f"{split / 'train' / 'digit 0'} holds no folder, only image files (12)" in errors
    assert "if they are one class of the data set, data.root must name the folder above" in errors
    (tmp_path / "outer").mkdir()
    split.rename(tmp_path / "outer" / "set")
    assert "data.root must name that" in found(check_folder(tmp_path / "outer"), "layout", "error")
    assert "digit 0 (only in" not in found(check_folder(tmp_path / "outer"), "classes")
    (tmp_path / "empty").mkdir()
    assert "holds no folder" in found(check_folder(tmp_path / "empty"), "layout", "error")


def test_flat_training_images_are_no_archive_and_no_other_classes(split):
    flatten(split / "train")
    report = check_folder(split)
    assert "train holds no folder, only image files (36); sort them" in found(report, "layout", "error")
    assert "archive" not in found(report, "layout", "error")
    assert not found(report, "classes"), "that training has none is said already"


def test_images_beside_class_folders_and_classes_named_like_splits_are_warnings(split):
    digit(60).save(split / "train" / "loose.png")
    for part in ("train", "test"):
        (split / part / "digit 1").rename(split / part / "dev")
    report = check_folder(split)
    warnings = found(report, "layout", "warning")
    assert "images beside the class folders (training leaves them out): 1\ntrain/loose.png" in warnings
    assert "the folders dev are used as classes, but have the usual names of splits" in warnings
    assert not report.errors


def test_splits_inside_class_folders_are_told(split):
    for folder in list((split / "train").iterdir()):
        (split / folder.name).mkdir()
        folder.rename(split / folder.name / "train")
        (split / "test" / folder.name).rename(split / folder.name / "test")
    (split / "train").rmdir()
    (split / "test").rmdir()
    warnings = found(check_folder(split), "layout", "warning")
    assert "folders with the usual names of splits: 6;" in warnings
    assert "digit 2/test" in warnings


def test_colours_that_conversion_changes_are_named_with_what_happens(split):
    folder = split / "train" / "digit 0"
    grey = digit(40).convert("L")
    grey.save(folder / "grey.png")
    clear = digit(41).convert("RGBA")
    clear.putalpha(grey)
    clear.save(folder / "clear.png")
    digit(44).convert("RGBA").save(folder / "opaque.png")
    untold = Image.Exif()
    untold[0x0112] = 0
    digit(45).save(folder / "upright.jpg", exif=untold)
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(folder / "deep.png")
    digit(42).convert("CMYK").save(folder / "print.jpg")
    turned = Image.Exif()
    turned[0x0112] = 6
    digit(43).save(folder / "turned.jpg", exif=turned)
    report = check_folder(split)
    expected = {"grey": "note", "clear": "warning", "deep": "warning", "print": "note", "turned": "warning"}
    for severity in ("note", "warning"):
        named = {name for name in expected if f"train/digit 0/{name}." in found(report, "colours", severity)}
        assert named == {name for name, its_severity in expected.items() if its_severity == severity}
    assert "opaque.png" not in found(report, "colours")
    assert "upright.jpg" not in found(report, "colours")
    assert "the upper 8 of 16 bits are kept" in found(report, "colours")
    assert not report.errors


def test_images_are_judged_as_training_reads_them(split):
    folder = split / "train" / "digit 0"
    grey = np.asarray(digit(40).convert("L"))
    Image.fromarray(grey).save(folder / "plain.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(folder / "deep.png")
    Image.fromarray(grey.astype(np.float32)).save(folder / "floats.tif")
    os.mkfifo(folder / "pipe.png")
    report = check_folder(split)
    assert "train/digit 0/deep.png = train/digit 0/plain.png" in found(report, "duplicates", "note")
    errors = found(report, "unreadable images", "error")
    assert "train/digit 0/floats.tif: its pixels are floating-point numbers; store it with 8 or 16 bits" in errors
    assert "train/digit 0/pipe.png: it is not a regular file" in errors


def test_duplicates_between_splits_and_with_other_labels_are_named(split):
    copied = first(split / "train" / "digit 0")
    shutil.copy(copied, split / "test" / "digit 0" / "leak.png")
    with Image.open(first(split / "train" / "digit 1")) as image:
        image.save(split / "train" / "digit 2" / "again.bmp")
    with Image.open(first(split / "train" / "digit 2")) as image:
        image.save(split / "train" / "digit 2" / "twice.png", compress_level=0)
    report = check_folder(split)
    warnings, notes = found(report, "duplicates", "warning"), found(report, "duplicates", "note")
    assert f"train/digit 0/{copied.name} = test/digit 0/leak.png" in warnings
    assert "= train/digit 2/again.bmp" in warnings, "another file format, the same pixels"
    assert "images with several classes: 1;" in warnings
    assert "= train/digit 2/twice.png" in notes


def test_imbalance_says_what_guessing_gives(split):
    for file in sorted((split / "train" / "digit 2").iterdir())[1:]:
        file.unlink()
    message = found(check_folder(split), "class imbalance", "warning")
    assert "12.0 times as many" in message
    assert "right for 48% of them" in message


def test_measured_mean_and_deviation_are_those_of_the_pixels(split):
    pixels = [np.asarray(Image.open(file)) / 255 for file in (split / "train").rglob("*.png")]
    mean, std = np.mean(pixels, axis=(0, 1, 2)), np.std(pixels, axis=(0, 1, 2))
    message = found(check_folder(split), "normalisation")
    assert f"mean [{','.join(str(round(value, 4)) for value in mean)}]" in message
    assert f"deviation [{','.join(str(round(value, 4)) for value in std)}]" in message
    assert found(check_folder(split, "data.std=[0.05,0.05,0.05]"), "normalisation", "warning")
    given = [f"data.{name}=[{','.join(map(str, values))}]" for name, values in (("mean", mean), ("std", std))]
    message = found(check_folder(split, *given), "normalisation", "note").replace("-0.0", "0.0")
    assert "network sees mean [0.0,0.0,0.0] and deviation [1.0,1.0,1.0]" in message


def test_images_of_one_colour_are_not_to_be_normalised_by_a_deviation_of_zero(split):
    for file in (split / "train").rglob("*.png"):
        Image.new("RGB", (32, 32)).save(file)
    message = found(check_folder(split), "normalisation", "warning")
    assert "look at the images" in message
    assert "give data.mean" not in message


@pytest.mark.parametrize(
    ("backbone", "side", "warned"),
    [("resnet18", 32, True), ("resnet18", 64, True), ("resnet18", 96, False)]
    + [(name, 32, False) for name in ("resnet18_cifar", "vgg16_cifar", "mobilenetv2_cifar", "shufflenetv2_cifar")],
)
def test_a_stem_for_large_images_on_small_ones_is_a_warning(split, backbone, side, warned):
    report = check_folder(split, f"data.image_size={side}", f"backbone={backbone}", quick=True)
    assert bool(found(report, "stem", "warning")) is warned
    if side == 32 and warned:
        assert "reduces 32x32 to 8x8" in found(report, "stem")


def test_memory_of_images_and_history_is_told(split):
    message = found(check_folder(split), "memory", "note")
    assert "48 decoded images take 0.15 MB at 32x32" in message
    assert "4 heads takes 0.00 MB" in message


def test_a_data_set_that_is_cut_down_is_judged_as_training_sees_it(split):
    first(split / "train" / "digit 1").write_text("no image")
    report = check_folder(split, "data.classes=[digit 2,digit 0]", "data.train_per_class=5")
    assert (report.num_classes, report.splits) == (2, {"train": 24, "test": 8})
    assert not report.errors, "the broken image is of a class that is left out"
    assert "18 decoded images take" in found(report, "memory", "note")
    shutil.copy(first(split / "train" / "digit 2"), split / "test" / "digit 0" / "mistaken.png")
    assert "= test/digit 0/mistaken.png" in found(check_folder(split, "data.classes=[digit 2,digit 0]"), "duplicates")
    first(split / "train" / "digit 1").unlink()
    assert "nearest: digit" in found(check_folder(split, "data.classes=[digit 2,digit]"), "loading", "error")


def test_without_an_image_size_the_usual_one_is_taken(split):
    report = check(str(split))
    note = found(report, "image sizes", "note")
    assert "32, the usual shorter side, is used here. The recipes for photographs, photos/..., set 224" in note
    assert "data.image_size=..." in report.text()
    assert not report.errors
    assert "enlarged more than 2 times" in found(check_folder(split, "data.image_size=96"), "image sizes", "warning")


def test_a_quick_look_opens_no_image(split):
    first(split / "train" / "digit 0").write_text("no image")
    assert not check_folder(split, quick=True).errors
    assert check_folder(split).errors


def test_cells_cut_from_photographs(bccd_root, tmp_path):
    root = write_cells(bccd_root, tmp_path / "cells", 60, {"RBC": 150, "WBC": 40, "Platelets": 12})
    report = check_folder(root)
    assert not report.errors
    assert report.num_classes == 3
    assert "RBC has 12.5 times as many training images as Platelets" in found(report, "class imbalance", "warning")
    assert "different sizes" in found(report, "image sizes", "note")
    cell = first(root / "WBC")
    cell.write_bytes(cell.read_bytes()[:-300])
    other = first(root / "RBC")
    shutil.copy(other, root / "Platelets" / "mistaken.jpg")
    report = check_folder(root)
    assert f"WBC/{cell.name}: image file is truncated" in found(report, "unreadable images", "error")
    assert f"Platelets/mistaken.jpg = RBC/{other.name}" in found(report, "duplicates", "warning")


def test_images_of_cifar100_as_png_files(cifar100_root, tmp_path):
    rows = parquet.ParquetFile(cifar100_root / "test-00000-of-00001.parquet").read_row_group(0)
    few = rows.filter(compute.less(rows["fine_label"], 5))
    for position, (image, label) in enumerate(zip(few["img"].to_pylist(), few["fine_label"].to_pylist(), strict=True)):
        folder = tmp_path / "set" / ("test" if position % 3 == 0 else "train") / f"class {label:02}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{position}.png").write_bytes(image["bytes"])
    report = check_folder(tmp_path / "set")
    assert not report.errors
    assert (report.num_classes, sum(report.splits.values())) == (5, len(few))
    assert found(report, "normalisation", "note")
    file = first(tmp_path / "set" / "test" / "class 03")
    file.write_bytes(file.read_bytes()[:-700])
    assert f"test/class 03/{file.name}: " in found(check_folder(tmp_path / "set"), "unreadable images", "error")


def test_parquet_rows_are_named(tmp_path):
    root = tmp_path / "set"
    write_parquet(root / "train.parquet", range(100))
    write_parquet(root / "test.parquet", range(99, 130))
    report = check_folder(root)
    assert "data=parquet" in report.layout
    assert not report.errors
    assert "train.parquet, row 99 (digit 1) = test.parquet, row 0 (digit 1)" in found(report, "duplicates", "warning")


def test_damaged_rows_and_labels_of_parquet_are_named(tmp_path):
    root = tmp_path / "set"
    table = parquet.read_table(write_parquet(root / "train.parquet", range(60)))
    images, labels = table["image"].to_pylist(), table["label"].to_pylist()
    images[7] = {"bytes": images[7]["bytes"][:60], "path": None}
    images[8] = {"bytes": None, "path": "elsewhere.png"}
    labels[3], labels[4], labels[5] = None, 11, -1
    images[5] = {"bytes": b"no image", "path": None}
    changed = pyarrow.table({"image": images, "label": labels}).replace_schema_metadata(table.schema.metadata)
    parquet.write_table(changed, root / "train.parquet")
    report = check_folder(root)
    errors = found(report, "unreadable images", "error")
    assert "train.parquet, row 7: " in errors
    assert "train.parquet, row 8: it has no bytes" in errors
    assert "train.parquet, row 5: it is no image" in errors, "an image without a label is opened, too"
    assert "2 of 60 images of the split train have no label (empty or -1) in column 'label'" in found(
        report, "labels", "error"
    )
    assert "train.parquet, row 3" in found(report, "labels", "error")
    assert "train.parquet, row 5" in found(report, "labels", "error")
    assert "row 4, label 11" in found(report, "labels", "error")
    (root / "train.parquet").write_bytes(b"PAR1, but no more")
    assert "cannot be read as Parquet" in found(check_folder(root), "layout", "error")


def test_layouts_are_recognised(digits_as_cifar100, digits_as_imagenet, tmp_path):
    assert recognised(digits_as_cifar100) == "cifar100"
    assert recognised(digits_as_imagenet) == "folder"
    for name, inner in {"cifar10": "cifar-10-batches-py", "fashion_mnist": "FashionMNIST/raw"}.items():
        (tmp_path / name / inner).mkdir(parents=True)
        assert recognised(tmp_path / name) == name
        assert found(check(str(tmp_path / name)), "layout", "error"), "empty: it is named, and no error of ours"
    assert not check(str(digits_as_cifar100)).errors
    with pytest.raises(DataError, match="neither a folder, a CSV file nor the name of a data set"):
        check(str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="~nobody-of-this-name/images cannot be read"):
        check("~nobody-of-this-name/images")


def test_what_the_user_wrote_wrongly_is_refused(split):
    with pytest.raises(RecipeError, match="check takes no method;"):
        check("digits", {"method": "plain"})
    with pytest.raises(RecipeError, match="contradicts"):
        check(str(split), {"data.root": "elsewhere"})
    with pytest.raises(RecipeError, match="contradicts"):
        check("digits", {"data": "folder"})
    with pytest.raises(OptionError, match="data.root is missing"):
        check("folder")
    with pytest.raises(OptionError, match="data.train_split='fit'"):
        check_folder(split, "data.train_split=fit")
    with pytest.raises(DataError, match="nowhere' is not a folder"):
        check("cifar100", {"data.root": "nowhere"})


def test_long_lists_are_cut_in_text_and_whole_in_json(split):
    for position in range(15):
        (split / "train" / "digit 0" / f"bad{position:02}.png").write_bytes(encoded(0)[:50])
    report = check_folder(split)
    assert "bad09.png" in report.text()
    assert "bad10.png" not in report.text()
    assert "and 5 more" in report.text()
    assert "bad14.png" in json.dumps(report.to_json())


def test_many_equal_images_are_cut_in_text_and_whole_in_json(split):
    for file in (split / "train").rglob("*.png"):
        digit(0).save(file)
    report = check_folder(split)
    assert max(map(len, report.text().splitlines())) < 500
    assert "... (all of it with --json)" in report.text()
    everything = sorted(f"train/{file.relative_to(split / 'train')}" for file in (split / "train").rglob("*.png"))
    assert all(place in json.dumps(report.to_json()) for place in everything)


def test_file_names_of_any_bytes_keep_one_line_and_send_no_codes_to_the_terminal(selfkd, split, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8:strict")
    names = ("new\nline.png", "\x1b[31mred.png", "\udcff.png", "ümläut 猫.png")
    for name in names:
        (split / "train" / "digit 0" / name).write_text("no image")
    broken = selfkd("check", split, "data.image_size=32")
    assert broken.returncode == 1
    assert "Traceback" not in broken.stderr
    for printed in (r"new\nline.png: it is", r"\x1b[31mred.png: it is", r"\udcff.png: it is", "ümläut 猫.png: it is"):
        assert f"train/digit 0/{printed}" in broken.stdout
    places = json.loads(selfkd("check", split, "data.image_size=32", "--json").stdout)["findings"][0]["where"]
    assert {place.partition(":")[0] for place in places} == {f"train/digit 0/{name}" for name in names}


def test_the_command_to_train_is_quoted_for_a_shell(split):
    spaced = split.rename(split.parent / "my images")
    report = check_folder(spaced)
    *_, advice, example, command = report.text().splitlines()
    assert advice == "No error was found. To train on this data, write a recipe's name for RECIPE, for example"
    assert example == "photos/resnet18/dtskd for photographs (data.image_size=224); 'selfkd list recipes' shows all:"
    assert command.startswith("  selfkd train RECIPE data.image_size=32 data=folder ")
    assert f"'data.root={spaced}'" in command
    assert f"data.root={spaced}" in report.options


def test_a_folder_may_be_given_below_the_home_folder(digits_as_cifar100, monkeypatch):
    monkeypatch.setenv("HOME", str(digits_as_cifar100.parent))
    assert not check("cifar100", {"data.root": f"~/{digits_as_cifar100.name}"}).errors


def test_the_command_ends_with_0_or_2(split, capsys):
    assert main(["check", str(split), "data.image_size=32", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trainable"] is True
    assert main(["check", "nowhere"]) == 2
    assert "neither a folder, a CSV file nor the name of a data set" in capsys.readouterr().err
    assert main(["check", str(split), "data.image_sise=32"]) == 2
    assert "nearest: data.image_size" in capsys.readouterr().err


def test_the_command_prints_nothing_but_its_report(selfkd, split):
    digit(50).save(split / "train" / "digit 0" / "odd.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff")  # PIL warns
    assert selfkd("check", split, "data.image_size=32").stderr == ""


def test_the_command_ends_with_1_where_training_would_fail(selfkd, split):
    file = first(split / "test" / "digit 0")
    file.write_text("no image")
    broken = selfkd("check", split, "data.image_size=32")
    assert broken.returncode == 1
    assert f"test/digit 0/{file.name}: it is no image" in broken.stdout
    assert broken.stderr.startswith("selfkd: training would fail")
    assert "Traceback" not in broken.stderr


def test_training_begins_with_what_costs_nothing_to_find(split, tmp_path, caplog):
    for file in sorted((split / "train" / "digit 2").iterdir())[1:]:
        file.unlink()
    overrides = {"data": "folder", "data.root": str(split), "data.image_size": "32", "trainer.epochs": "1"}
    run(resolve("demo/digits/resnet18/plain", {**overrides, "backbone.width": "4"}), tmp_path, show_progress=False)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert any(message.startswith("tiny classes: classes with fewer than 10") for message in warnings)
    assert any("digit 2: 1" in message for message in warnings)
    assert any("12.0 times as many" in message for message in warnings)


def test_tiny_imagenets_classes_are_named_as_in_training(split):
    split.joinpath("test").rename(split / "val")
    (split / "words.txt").write_text("digit 0\tnought\ndigit 1\tone\ndigit 2\ttwo\n")
    (split / "train" / "digit 2" / "broken.png").write_text("no image")
    assert check_folder(split, "data=tiny_imagenet").errors
    report = check(str(split), {"data": "tiny_imagenet", "data.image_size": "32", "data.classes": "[nought,one]"})
    assert not report.errors, "the broken image is of a class that is left out"
    assert report.num_classes == 2


def test_a_quick_look_finds_what_training_would_refuse_without_opening_an_image(split):
    report = check(str(split), {"data.image_size": "32", "data.classes": "[digit 0,digit 7]"}, quick=True)
    assert "data.classes" in found(report, "loading", "error")
    report = check(str(split), {"data.image_size": "32", "data.validation_fraction": "0.001"}, quick=True)
    assert "data.validation_fraction=0.001" in found(report, "loading", "error")


def test_a_loop_of_links_hides_nothing_else_of_its_class(split):
    (split / "train" / "digit 1" / "loop").symlink_to(split / "train" / "digit 1")
    (split / "train" / "digit 1" / "broken.png").write_text("no image")
    report = check_folder(split)
    assert "train/digit 1/loop is linked to" in found(report, "layout", "error")
    assert "train/digit 1/broken.png: it is no image" in found(report, "unreadable images", "error")
    assert not found(report, "empty classes")


def test_a_folder_read_by_the_hubs_library_is_not_where_it_downloads_to(split):
    pytest.importorskip("datasets", reason="the lowest versions are tested without this extra")
    check(str(split), {"data": "hub", "data.image_size": "32"})
    assert {entry.name for entry in split.iterdir()} == {"train", "test"}


def test_class_names_that_look_alike_are_a_warning(split):
    for part in ("train", "test"):
        (split / part / "digit 1").rename(split / part / "Digit  0")
        (split / part / "digit 2").rename(split / part / " ")
    warnings = found(check_folder(split, "data.classes=[digit 0,Digit  0]"), "classes", "warning")
    assert "differ only in spaces, capitals or letter codes: 1;" in warnings
    assert "'Digit  0' and 'digit 0'" in warnings or "'digit 0' and 'Digit  0'" in warnings
    errors = found(check_folder(split), "loading", "error")
    assert "the classes of Folder (the names of the class folders): class 0 has no name; give it one" in errors


PROC = pytest.mark.skipif(not Path("/proc/self").exists(), reason="/proc is Linux's")


@PROC
def test_a_folder_of_the_system_is_examined_to_an_end(selfkd):
    for _ in range(5):
        broken = selfkd("check", "/proc", "data.image_size=32", timeout=120)
        if "No such file" not in broken.stderr:
            break  # else a process of this machine ended while its folder was listed
    assert broken.returncode == 1
    assert broken.stderr.startswith("selfkd: training would fail")
    assert len(broken.stdout.splitlines()) < 200


@PROC
@pytest.mark.parametrize("data", ["folder", "parquet", "hub"])
def test_training_on_a_folder_of_the_system_is_refused(data, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if data == "hub":
        pytest.importorskip("datasets", reason="the lowest versions are tested without this extra")
    place = "name" if data == "hub" else "root"
    assert main(["train", f"data={data}", f"data.{place}=/proc", "data.image_size=32"]) == 2
    assert "/proc" in capsys.readouterr().err


def test_pipes_in_place_of_tables_are_not_waited_for(tmp_path, split):
    os.mkfifo(tmp_path / "train.parquet")
    report = check(str(tmp_path), {"data": "parquet", "data.image_size": "32"})
    assert "train.parquet: cannot be read as Parquet: it is not a regular file" in found(report, "layout", "error")
    split.joinpath("test").rename(split / "val")
    os.mkfifo(split / "words.txt")
    report = check_folder(split, "data=tiny_imagenet")
    assert "words.txt cannot be read: it is not a regular file" in found(report, "layout", "error")
