import multiprocessing
import pickle
import threading

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

from image_sets import digit, positions_of
from selfkd.contract import Needs
from selfkd.data.augmentation.augmentations import RandomResizedCrop
from selfkd.data.loading.batches import LoaderOptions
from selfkd.data.loading.loaders import training_loader
from selfkd.data.reading.dataset_images import DatasetImages
from selfkd.data.sources.datasets import DatasetObjects
from selfkd.data.splits import ImageSet
from selfkd.errors import DataError, OptionError

TARGETS = load_digits().target
DIGITS = [position for label in range(3) for position in positions_of(label, 10)]
IMAGES = {position: digit(position, side=40) for position in DIGITS}


class Digits(Dataset):
    """Real digits. A convert function gives their images in another form."""

    def __init__(self, positions=DIGITS, convert=lambda image: image, read=None):
        self.positions, self.convert = list(positions), convert
        self.read = [] if read is None else read

    def __len__(self):
        return len(self.positions)

    def __getitem__(self, index):
        self.read.append(index)
        position = self.positions[index]
        return self.convert(IMAGES[position]), int(TARGETS[position])


class WithTargets(Digits):
    classes = ("zero", "one", "two")

    @property
    def targets(self):
        return TARGETS[self.positions]


def as_array(image):
    return np.array(image)


def as_tensor(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def as_floats(image):
    return as_tensor(image) / 255


def load(given, seed=0, whole_images=False, **options):
    return DatasetObjects(given=given, **{"image_size": 32, **options}).load(seed, whole_images)


def test_one_dataset_gives_a_training_and_a_test_split():
    splits = load(Digits())
    assert splits.class_names == ("0", "1", "2")
    assert splits.train.labels.bincount().tolist() == [8] * 3
    assert splits.test.labels.bincount().tolist() == [2] * 3
    assert isinstance(splits.train, ImageSet)
    expected = DatasetObjects(image_size=32).image_transform()(IMAGES[DIGITS[0]])
    assert any(torch.equal(image, expected) for image in (*splits.train.images, *splits.test.images))


def test_a_mapping_gives_the_splits_of_its_names():
    given = {"train": Digits(DIGITS[::2]), "val": Digits(DIGITS[1::4]), "test": Digits(DIGITS[3::4])}
    splits = load(given)
    assert {name: len(split) for name, split in splits.by_name.items()} == {"train": 15, "validation": 8, "test": 7}
    assert splits.origins["validation"] == "the split val"
    with pytest.raises(DataError, match="has no split called train"):
        load({"fit": Digits()})
    assert len(load({"fit": Digits(DIGITS[::2]), "held": Digits(DIGITS[1::2])}, train_split="fit").train) == 12


def test_all_forms_of_an_image_give_the_same_pixels():
    expected = load(Digits())
    for convert in (as_array, as_tensor, as_floats):
        splits = load(Digits(convert=convert))
        assert torch.equal(splits.train.images, expected.train.images)
        assert splits.fingerprint() == expected.fingerprint()
    grey = load(Digits(convert=lambda image: np.array(image.convert("L"))))
    assert torch.equal(grey.train.images, load(Digits(convert=lambda image: image.convert("L"))).train.images)


def test_stored_labels_and_names_are_used_and_no_image_is_read_for_them():
    read = []
    dataset = WithTargets(read=read)
    listing = DatasetObjects(given=dataset, image_size=32).listing(0)
    assert listing.class_names == ("zero", "one", "two")
    assert set(read) <= set(range(0, 30, 4))
    subset = Subset(dataset, list(range(5, 25)))
    read.clear()
    listing = DatasetObjects(given=subset, image_size=32).listing(0)
    assert listing.class_names == ("zero", "one", "two")
    assert listing.splits["all images"].labels.tolist() == TARGETS[DIGITS[5:25]].tolist()
    assert len(set(read)) < 10


def test_stored_labels_that_are_not_those_of_the_samples_are_not_used():
    class Shifted(WithTargets):
        def __getitem__(self, index):
            image, label = super().__getitem__(index)
            return image, (label + 1) % 3

    labels = DatasetObjects(given=Shifted(), image_size=32).listing(0).splits["all images"].labels
    assert labels.tolist() == ((TARGETS[DIGITS] + 1) % 3).tolist()


def test_images_in_memory_are_read_once_and_have_the_fingerprint_of_the_dataset():
    read = []
    splits = load(WithTargets(read=read))
    assert max(map(read.count, range(30))) <= 4  # the label of the first ones, twice to compare, then to decode
    assert read.count(1) == 1
    before = len(read)
    fingerprint = splits.fingerprint()
    assert len(read) - before == 2  # the first image of each split, for its size
    assert load(WithTargets(), memory_gb=0).fingerprint() == fingerprint
    changed = load(WithTargets(convert=lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)))
    assert changed.fingerprint() != fingerprint


def loader_of(splits, workers):
    return training_loader(
        splits.train,
        RandomResizedCrop(size=32),
        (0.5,) * 3,
        (0.5,) * 3,
        LoaderOptions(batch_size=8, workers=workers),
        0,
        Needs(),
        False,
        3,
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_large_images_are_read_during_training(workers):
    splits = load(WithTargets(), whole_images=True)
    assert isinstance(splits.train, DatasetImages)
    batches = list(loader_of(splits, workers).batches(0))
    again = list(loader_of(load(WithTargets(), whole_images=True), 0).batches(0))
    assert all(torch.equal(one.images, other.images) for one, other in zip(batches, again, strict=True))


class Locked(Digits):
    """Cannot be copied to another process."""

    def __init__(self):
        super().__init__(convert=as_array)
        self.lock = threading.Lock()


@pytest.fixture
def spawned():
    """New processes are spawned, as by default on most systems."""
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("spawn", force=True)
    yield
    multiprocessing.set_start_method(before, force=True)


def test_forked_workers_share_a_dataset_that_cannot_be_sent():
    assert list(loader_of(load(Locked(), whole_images=True), 1).batches(0))


def test_a_dataset_that_cannot_be_sent_to_a_worker_is_refused(spawned):
    splits = load(Locked(), whole_images=True)
    with pytest.raises(DataError, match="cannot be sent to the processes that read them: TypeError.*loader.workers=0"):
        list(loader_of(splits, 1).batches(0))
    assert list(loader_of(splits, 0).batches(0))


class Counted(Digits):
    """Counts how often it is copied to another process."""

    copies = 0

    def __getstate__(self):
        Counted.copies += 1
        return self.__dict__


def test_a_dataset_is_not_copied_before_the_first_worker_starts(spawned, monkeypatch):
    """The start of a process copies it; images in memory may be many gigabytes."""

    def start(process):
        raise OSError("no process is needed here")

    monkeypatch.setattr(multiprocessing.Process, "start", start)
    with pytest.raises(OSError, match="no process is needed here"):
        list(loader_of(load(Counted(convert=as_array), whole_images=True), 2).batches(0))
    assert Counted.copies == 0


def test_a_dataset_can_be_sent_to_a_spawned_worker():
    splits = load(Digits(convert=as_array), whole_images=True)
    copied = pickle.loads(pickle.dumps(splits.train))  # noqa: S301  # our own
    assert torch.equal(copied.transformed(3), splits.train.transformed(3))


def test_a_dataset_with_a_random_transform_is_refused_before_training():
    drawn = np.random.default_rng(0)

    def flipped(image):
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if drawn.random() < 0.5 else image

    read = []
    with pytest.raises(DataError, match="sample .* is another image than at the reading before.*augmentation="):
        load(WithTargets(convert=flipped, read=read))
    assert len(read) < 30


def test_a_change_after_the_first_reading_is_found():
    dataset = WithTargets()
    splits = load(dataset, whole_images=True)
    splits.fingerprint()
    dataset.convert = lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    with pytest.raises(DataError, match="is another image"):
        splits.train.transformed(1)


class Counting(IterableDataset):
    def __iter__(self):
        yield digit(0), 0


class Endless(Dataset):
    def __getitem__(self, index):
        return digit(index), 0


class Failing(Digits):
    def __getitem__(self, index):
        if index == 7:
            raise KeyError("no such key")
        return super().__getitem__(index)


class Labelled(Digits):
    def __init__(self, label):
        super().__init__()
        self.label = label

    def __getitem__(self, index):
        return super().__getitem__(index)[0], self.label(index)


def normalised(image):
    return (as_floats(image) - 0.5) / 0.25


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "needs the Dataset object, which no file holds; pass it again in Python: selfkd.train"),
        ([], "the Dataset list is empty; it must hold samples"),
        ({"train": Digits(), "test": []}, "test.* is empty; it must hold samples"),
        (Counting(), "the Dataset Counting is an IterableDataset"),
        (Endless(), "the Dataset Endless has no length or no indices"),
        (DataLoader(Digits()), "is a DataLoader; give the Dataset in it"),
        (3, "the Dataset int has no length or no indices; it must be a map-style torch Dataset"),
        ((Digits(), Digits()), "sample 0 of the Dataset tuple is a Digits; it must be a pair"),
        ([{"image": 0, "label": 1}], r"sample 0 of the Dataset list is a dict; it must be a pair \(image, label\)"),
        (Failing(), r"sample 7 of the Dataset Failing cannot be read: KeyError: 'no such key' \(.*test_datasets.py"),
        (Labelled(lambda index: "cat"), "sample 0 of the Dataset Labelled has the label 'cat'; a label must be one"),
        (Labelled(lambda index: torch.zeros(3)), r"has the label tensor\(\[0., 0., 0.\]\); a label must be one"),
        (
            Labelled(lambda index: index - 1),
            r"labels below 0: 1; .* from 0 \(sample 0 of the Dataset Labelled has -1\)",
        ),
        (Labelled(lambda index: 1000 * index), "has the label 29000, but fewer samples; labels must count"),
        (
            Digits(convert=normalised),
            "sample 0 .*: not a usable image: its values reach from -2 to 1.8.*data.mean",
        ),
        (Digits(convert=lambda image: np.array(image, np.int64)), "its type is int64; it must be uint8"),
        (Digits(convert=lambda image: as_tensor(image)[:2]), r"its shape is \[2, 40, 40\]; a Tensor must have"),
        (Digits(convert=lambda image: image.tobytes()), "it is a bytes; it must be a PIL image, a tensor or a NumPy"),
    ],
)
def test_what_is_no_labelled_image_is_refused_by_its_place(given, message):
    with pytest.raises(DataError, match=message):
        load(given)


def test_options_that_do_not_fit_are_refused():
    with pytest.raises(OptionError, match="data.image_size is missing.*the first image has 40x40"):
        load(Digits(), image_size=None)
    with pytest.raises(OptionError, match="data.test_split='test' .* the Dataset Digits has no splits"):
        load(Digits(), test_split="test")
    other = WithTargets(DIGITS[1::2])
    other.classes = ("a", "b", "c")
    with pytest.raises(DataError, match=r"\(train\) and the Dataset WithTargets \(test\) name other classes"):
        load({"train": WithTargets(DIGITS[::2]), "test": other})
