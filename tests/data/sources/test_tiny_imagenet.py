import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from image_sets import positions_of, save_digit
from selfkd.data.sources.tiny_imagenet import TinyImageNet
from selfkd.errors import DataError, OptionError
from selfkd.recipes.reader import resolve
from selfkd.runs.train import run

WNIDS = ("n03", "n01", "n02")  # as wnids.txt has them: unsorted


@pytest.fixture
def archive(tmp_path):
    """Real digits as the archive unpacks: 4 for training and 2 for validation of each of 3 classes, one greyscale."""
    root = tmp_path / "tiny-imagenet-200"
    annotations = []
    for digit, wnid in enumerate(WNIDS):
        for rank, position in enumerate(positions_of(digit, 6)):
            if rank < 4:
                mode = "L" if (digit, rank) == (1, 2) else "RGB"
                save_digit(root / "train" / wnid / "images" / f"{wnid}_{rank}.JPEG", position, mode, (64, 64))
            else:
                name = f"val_{10 * (rank - 4) + digit}.JPEG"
                save_digit(root / "val" / "images" / name, position, size=(64, 64))
                annotations.append(f"{name}\t{wnid}\t0\t0\t62\t62\n")
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text("")
    (root / "val" / "val_annotations.txt").write_text("".join(sorted(annotations)))
    (root / "wnids.txt").write_text("".join(f"{wnid}\n" for wnid in WNIDS))
    (root / "words.txt").write_text("n00\tentity\nn01\tone, unity\nn02\ttwo\nn03\tnought\n")
    return root


def sort_validation(root, below=""):
    for line in (root / "val" / "val_annotations.txt").read_text().splitlines():
        name, wnid = line.split("\t")[:2]
        folder = root / "val" / wnid / below
        folder.mkdir(parents=True, exist_ok=True)
        (root / "val" / "images" / name).rename(folder / name)


def load(root, **options):
    return TinyImageNet(root=str(root), **options).load(seed=0)


def test_the_archives_layout_is_read(archive):
    splits = load(archive)
    assert splits.class_names == ("one, unity", "two", "nought"), "in the order of the sorted WordNet ids"
    assert splits.train.images.shape == (12, 3, 32, 32)
    assert splits.train.images.dtype == torch.uint8
    assert splits.train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert splits.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert splits.origin("test") == "the data set's own validation split", "its test images have no labels"
    transform = TinyImageNet(root=str(archive)).image_transform()
    for held, file in (
        (splits.train.images[1], "train/n01/images/n01_1.JPEG"),
        (splits.test.images[0], "val/images/val_1.JPEG"),
    ):
        with Image.open(archive / file) as image:
            assert torch.equal(held, transform(image))


def test_both_layouts_give_the_same(archive):
    flat = load(archive)
    sort_validation(archive, "images")
    assert load(archive).fingerprint() == flat.fingerprint(), "an emptied val/images does not matter"
    (archive / "val" / "images").rmdir()
    for wnid in WNIDS:
        for file in (archive / "val" / wnid / "images").iterdir():
            file.rename(archive / "val" / wnid / file.name)
        (archive / "val" / wnid / "images").rmdir()
    assert load(archive).fingerprint() == flat.fingerprint()


def test_classes_of_equal_words_get_their_identifiers(archive):
    (archive / "words.txt").write_text("".join(f"{wnid}\tcrane\n" for wnid in WNIDS))
    assert load(archive).class_names == tuple(f"crane ({wnid})" for wnid in sorted(WNIDS))


def test_images_at_their_own_size(archive):
    splits = load(archive, image_size=64)
    with Image.open(archive / "train/n01/images/n01_0.JPEG") as image:
        assert torch.equal(splits.train.images[0], torch.from_numpy(np.array(image)).permute(2, 0, 1))


def test_they_are_scaled_as_pil_scales(archive):
    with Image.open(archive / "train/n01/images/n01_0.JPEG") as image:
        expected = np.array(image.resize((32, 32), Image.Resampling.BILINEAR))
    assert torch.equal(load(archive).train.images[0], torch.from_numpy(expected).permute(2, 0, 1))


def test_only_what_remains_is_decoded(archive):
    for left_out in ("train/n01/images/n01_1.JPEG", "val/images/val_1.JPEG"):
        (archive / left_out).write_text("no image")
    splits = load(archive, classes=("two", "nought"))
    assert splits.train.labels.tolist() == [0] * 4 + [1] * 4


def test_without_words_classes_have_their_ids(archive):
    (archive / "words.txt").unlink()
    assert load(archive).class_names == ("n01", "n02", "n03")


def test_unsorted_images_without_annotations_are_refused(archive):
    (archive / "val" / "val_annotations.txt").unlink()
    with pytest.raises(DataError, match="val_annotations.txt is missing.*or sort the images"):
        load(archive)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda text: text.replace("n02", "n09"),
            "annotations.txt has other .*n02 .only in training., n09 .only in val.",
        ),
        (lambda text: text.replace("\t", " "), "val_annotations.txt is damaged"),
        (lambda text: "".join(text.splitlines(keepends=True)[1:]), "has no line for val_0.JPEG in"),
        (lambda text: text + "val_99.JPEG\tn01\n", "val_99.JPEG: not a readable image"),
        (lambda text: text + "../../secret.JPEG\tn01\n", "names '../../secret.JPEG', which is not a file in"),
    ],
)
def test_annotations_that_do_not_fit_are_refused(archive, change, message):
    annotations = archive / "val" / "val_annotations.txt"
    annotations.write_text(change(annotations.read_text()))
    with pytest.raises(DataError, match=message):
        load(archive)


def test_other_classes_in_validation_are_refused(archive):
    sort_validation(archive)
    (archive / "val" / "images").rmdir()
    shutil.rmtree(archive / "val" / "n02")
    with pytest.raises(DataError, match=r"val has other classes .* 0 only in val.*\(n02 \(only in training\)\)"):
        load(archive)


def test_validation_images_linked_to_those_of_training_are_refused(archive):
    sort_validation(archive)
    shutil.rmtree(archive / "val" / "images")
    shutil.rmtree(archive / "val" / "n02")
    (archive / "val" / "n02").symlink_to(archive / "train" / "n02" / "images")
    with pytest.raises(DataError, match="val/n02 and .*train/n02/images are the same folder"):
        load(archive)


def test_an_unreadable_image_is_named(archive):
    file = archive / "train" / "n02" / "images" / "n02_3.JPEG"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(DataError, match="n02_3.JPEG: not a readable image"):
        load(archive)


def test_values_out_of_range_are_refused():
    with pytest.raises(OptionError, match="data.image_size=48 .* 32 or 64"):
        TinyImageNet(image_size=48)
    with pytest.raises(OptionError, match="data.root is missing.* Tiny-ImageNet"):
        TinyImageNet().load(seed=0)


def test_a_finished_run_knows_its_data_again(archive, tmp_path, caplog):
    """Its fingerprint is of pixels, whichever way the archive is laid out."""
    options = {"data": "tiny_imagenet", "data.root": str(archive), "backbone.width": 4, "trainer.epochs": 1}
    recipe = resolve("demo/digits/resnet18/plain", {**options, "loader.batch_size": 6, "name": "tiny"})
    run(recipe, tmp_path / "runs", show_progress=False)
    caplog.set_level("INFO", "selfkd")
    run(recipe, tmp_path / "runs", show_progress=False)
    assert "is finished; --overwrite trains it again" in caplog.text
