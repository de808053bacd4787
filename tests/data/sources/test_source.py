"""What every data set can do: choose classes, thin the training set, hold out a validation split."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import pil_to_tensor

from image_sets import write_folder
from selfkd.data.doctor.checking import check_source
from selfkd.data.listing import Listing, SplitNames
from selfkd.data.reading.image_files import ImageFiles
from selfkd.data.sources.base import Source
from selfkd.data.sources.digits import Digits
from selfkd.data.sources.folder import Folder
from selfkd.data.splits import ImageSet, Splits
from selfkd.errors import DataError, OptionError
from selfkd.recipes.reader import resolve


@pytest.fixture
def root(tmp_path):
    write_folder(tmp_path / "train", 6, digits=range(4))
    write_folder(tmp_path / "test", 2, digits=range(4), start=6)
    return tmp_path


def folder(root, **options):
    return Folder(root=str(root), **{"image_size": 16, **options})


def paths(split):
    return {split.origin.path(position) for position in range(len(split))}


def test_named_classes_are_kept_in_the_order_given(root):
    everything, splits = folder(root).load(0), folder(root, classes=("digit 3", "digit 1")).load(0)
    assert splits.class_names == ("digit 3", "digit 1")
    assert splits.train.labels.tolist() == [1] * 6 + [0] * 6
    assert splits.test.labels.tolist() == [1] * 2 + [0] * 2
    kept = torch.isin(everything.train.labels, torch.tensor([1, 3]))
    assert torch.equal(splits.train.images, everything.train.images[kept])
    assert splits.fingerprint() != everything.fingerprint()


def test_the_test_images_have_a_fingerprint_of_their_own(root):
    whole, held, few = (
        folder(root, **options).load(0) for options in ({}, {"validation_fraction": 0.5}, {"classes": 2})
    )
    assert whole.fingerprint() != held.fingerprint()
    assert whole.test_fingerprint() == held.test_fingerprint() != few.test_fingerprint()
    assert whole.test_fingerprint() != whole.fingerprint()


def test_a_number_keeps_the_first_classes(root):
    splits = folder(root, classes=2).load(0)
    assert splits.class_names == ("digit 0", "digit 1")
    assert splits.info.num_classes == 2
    assert splits.train.labels.bincount().tolist() == [6, 6]


def test_classes_are_chosen_before_validation_is_held_out(root):
    splits = folder(root, classes=2, train_per_class=4, validation_fraction=0.5).load(0)
    assert splits.train.labels.tolist() == splits.validation.labels.tolist() == [0, 0, 1, 1]
    assert splits.selection[0] == "validation"
    assert splits.origins["validation"] == "0.5 of the training images, stratified, drawn by seed 0"


def test_images_on_disk_are_cut_down_as_those_in_memory(root):
    options = {"classes": ("digit 2", "digit 0"), "train_per_class": 3, "validation_fraction": 0.34}
    held, streamed = (folder(root, memory_gb=memory_gb, **options).load(5) for memory_gb in (1, 0))
    for name, split in streamed.by_name.items():
        assert isinstance(split, ImageFiles)
        assert torch.equal(split.labels, held.by_name[name].labels)
        assert torch.equal(split.in_memory(name).images, held.by_name[name].images)
    assert held.fingerprint() == streamed.fingerprint(), "where images are held is no part of the data"


def test_the_seed_draws_and_smaller_draws_are_parts_of_larger_ones(root):
    def drawn(count, seed):
        return paths(folder(root, train_per_class=count).load(seed).train)

    assert drawn(2, 0) == drawn(2, 0) < drawn(4, 0)
    assert drawn(2, 0) != drawn(2, 1)
    assert len(drawn(2, 0)) == 8


def test_digits_can_be_cut_to_classes():
    whole, some = Digits().load(0), Digits(classes=("7", "1")).load(0)
    assert some.class_names == ("7", "1")
    assert torch.equal(some.train.images, whole.train.images[torch.isin(whole.train.labels, torch.tensor([1, 7]))])
    assert some.train.labels.bincount().tolist() == [10, 10]


def test_where_images_come_from_is_told_truly(root):
    splits = folder(root, classes=("digit 3", "digit 1"), train_per_class=4, validation_fraction=0.5).load(7)
    classes = "(2 of 4 classes: digit 3, digit 1)"
    assert splits.origins == {
        "train": f"the split train {classes}, 4 of each class, drawn by seed 7, without the validation split",
        "validation": "0.5 of the training images, stratified, drawn by seed 7",
        "test": f"the split test {classes}",
    }
    assert folder(root, classes=4).load(0).origins == {"train": "the split train", "test": "the split test"}
    unsplit = folder(root / "train", classes=3, test_fraction=0.5).load(2)
    classes = "(3 of 4 classes: digit 0, digit 1, digit 2)"
    assert unsplit.origins == {
        "train": f"all images {classes}, without the test split",
        "test": f"0.5 of all images {classes}, stratified, drawn by seed 2",
    }
    assert Digits(classes=2).load(3).origins == {
        "train": "10 of each class, drawn by seed 3 (2 of 10 classes: 0, 1)",
        "test": "all images that are not for training (2 of 10 classes: 0, 1)",
    }


def test_classes_left_out_do_not_keep_a_test_split_from_being_drawn(root):
    whole = root / "train"
    for file in sorted((whole / "digit 2").iterdir())[1:]:
        file.unlink()
    with pytest.raises(OptionError, match="data.test_fraction=0.5 .*'digit 2' has only one"):
        folder(whole, test_fraction=0.5).load(0)
    splits = folder(whole, test_fraction=0.5, classes=("digit 3", "digit 1")).load(0)
    assert splits.class_names == ("digit 3", "digit 1")
    assert splits.train.labels.bincount().tolist() == splits.test.labels.bincount().tolist() == [3, 3]


@pytest.mark.parametrize("written", ["[7,1]", "['7',1]", "['7','1']"])
def test_classes_whose_names_are_numbers_can_be_written_as_such(written):
    recipe = resolve("demo/digits/resnet18/plain", {"data.classes": written})
    splits = recipe.build("data").load(0)
    assert splits.class_names == ("7", "1")
    assert splits.fingerprint() == Digits(classes=("7", "1")).load(0).fingerprint()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": (1, "1")}, "data.classes=.* each at most once"),
        ({"classes": 1}, "data.classes=1 .* >= 2"),
        ({"classes": 5}, "data.classes=5 .* at most 4, the number of classes"),
        ({"classes": ("digit 1",)}, "data.classes=.* two or more names"),
        ({"classes": ("digit 1", "digit 1")}, "data.classes=.* each at most once"),
        ({"classes": ("digit 1", "dgit 2")}, "no class is called 'dgit 2', nearest: digit 2"),
        ({"train_per_class": 0}, "data.train_per_class=0"),
        ({"train_per_class": 7}, "data.train_per_class=7 .* at most 6, the number of training images of 'digit 0'"),
    ],
)
def test_what_cannot_be_cut_is_refused(root, options, message):
    with pytest.raises(OptionError, match=message):
        folder(root, **options).load(0)


def test_a_source_that_only_reads_is_listed_by_what_it_reads():
    @dataclass(frozen=True, kw_only=True)
    class Noise(Source):
        def read(self, seed):
            images = torch.randint(
                0, 256, (6, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
            )
            labels = torch.tensor([0, 0, 0, 1, 1, 1])
            return Splits(ImageSet(images, labels), ImageSet(images[2:4], labels[2:4]), ("left", "right"))

        def image_transform(self):
            return v2.Compose([pil_to_tensor, v2.Resize([8, 8])])

    listing = Noise().listing(0)
    assert listing.class_names == ("left", "right")
    assert not listing.problems
    assert {name: counts.tolist() for name, counts in listing.counts.items()} == {"train": [3, 3], "test": [1, 1]}
    first = next(listing.splits["train"].stored_images("train"))
    assert (first.place, first.label) == ("train sample 0", 0)
    assert torch.equal(pil_to_tensor(first.open()), Noise().read(0).train.images[0])
    _, findings = check_source(Noise(train_per_class=2), 0)
    assert any("images in several splits: 2;" in finding.message for finding in findings)
    assert any("take 0.00 MB at 8x8;" in finding.message for finding in findings)


def test_a_listing_has_labels_outside_the_classes_and_its_classes_leave_them_out():
    images = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
    split = ImageSet(images, torch.tensor([-1, 2, 5, 0]))
    listing = Listing(("a", "b", "c"), SplitNames("train"), {"train": split})
    assert listing.counts["train"].tolist() == [1, 0, 1]
    chosen = listing.of_classes([2, 0])
    assert chosen.class_names == ("c", "a")
    assert chosen.splits["train"].labels.tolist() == [0, 1]


def test_a_test_split_without_the_chosen_classes_is_refused(root):
    @dataclass(frozen=True, kw_only=True)
    class OneClassTested(Folder):
        def read(self, seed):
            splits = super().read(seed)
            return replace(splits, test=splits.test.take(np.array([0])))

    with pytest.raises(DataError, match="the test split, of the classes that data.classes names, is empty"):
        OneClassTested(root=str(root), image_size=16, classes=("digit 1", "digit 2")).load(0)
