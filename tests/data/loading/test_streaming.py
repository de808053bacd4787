import pytest
import torch

from selfkd.contract import Needs
from selfkd.data.augmentation.augmentations import CropFlip, RandomResizedCrop, Unchanged
from selfkd.data.loading import batches
from selfkd.data.loading.batches import LoaderOptions
from selfkd.data.loading.loaders import evaluation_loader, training_loader
from selfkd.data.loading.resident import EvaluationLoader, TrainingLoader
from selfkd.data.loading.streaming import StreamingEvaluationLoader, StreamingTrainingLoader
from selfkd.data.sources.imagenet import ImageNet
from selfkd.errors import DataError, OptionError

# Python 3.12 and later warn when torch forks the workers of a loader.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
CROP = RandomResizedCrop(size=32)


@pytest.fixture
def source(digits_as_imagenet):
    return ImageNet(root=str(digits_as_imagenet), image_size=32, resize=36, mean=MEAN, std=STD)


@pytest.fixture
def train(source):
    return source.load(seed=0).train


def loader(data, augmentation=CROP, batch_size=8, seed=0, needs=None, workers=0):
    options = LoaderOptions(batch_size=batch_size, workers=workers)
    return training_loader(data, augmentation, MEAN, STD, options, seed, needs or Needs(sample_index=True), True, 3)


def evaluation(data, batch_size=4, workers=0):
    return evaluation_loader(
        data, MEAN, STD, LoaderOptions(evaluation_batch_size=batch_size, workers=workers), channels_last=True
    )


def pixels(batch):
    """The uint8 images behind a batch."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return ((batch.images * std + mean) * 255).round().to(torch.uint8)


def by_sample(batches):
    return {int(i): image for batch in batches for i, image in zip(batch.indices, batch.images, strict=True)}


def equal(first, second):
    return all(
        torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels) and torch.equal(a.indices, b.indices)
        for a, b in zip(first, second, strict=True)
    )


def test_the_loader_follows_from_where_the_images_lie(train):
    assert isinstance(loader(train), StreamingTrainingLoader)
    assert isinstance(evaluation(train), StreamingEvaluationLoader)
    held = train.in_memory("digits")
    assert isinstance(loader(held, CropFlip()), TrainingLoader)
    assert isinstance(evaluation(held), EvaluationLoader)


@pytest.mark.parametrize("augmentation", [CROP, CropFlip(padding=4)], ids=["whole images", "batches"])
def test_workers_change_nothing(train, augmentation):
    alone, helped = (loader(train, augmentation, workers=workers) for workers in (0, 2))
    for epoch in (0, 1):
        assert equal(list(alone.epoch(epoch)), list(helped.epoch(epoch)))


def test_files_and_memory_give_the_same(train):
    held = train.in_memory("digits")
    for augmentation in (Unchanged(), CropFlip(padding=4)):
        assert equal(list(loader(train, augmentation).epoch(1)), list(loader(held, augmentation).epoch(1)))
    for ours, theirs in zip(evaluation(train), evaluation(held), strict=True):
        assert torch.equal(ours.images, theirs.images)
        assert torch.equal(ours.labels, theirs.labels)


def test_every_sample_comes_once_an_epoch_with_its_index_and_label(train):
    batches = list(loader(train, Unchanged(), workers=2).epoch(0))
    assert [len(batch.labels) for batch in batches] == [8, 8, 5]
    assert torch.cat([batch.indices for batch in batches]).sort().values.tolist() == list(range(21))
    for batch in batches:
        assert torch.equal(pixels(batch), torch.stack([train.transformed(i) for i in batch.indices.tolist()]))
        assert torch.equal(batch.labels, train.labels[batch.indices])


def test_an_epoch_can_be_repeated_and_epochs_and_seeds_differ(train):
    first, again, later, other = (
        list(loader(train, seed=seed).epoch(epoch)) for seed, epoch in ((0, 2), (0, 2), (0, 3), (1, 2))
    )
    assert equal(first, again)
    for different in (later, other):
        assert not torch.equal(first[0].indices, different[0].indices)
        assert sum(torch.equal(by_sample(first)[i], by_sample(different)[i]) for i in range(21)) < 3


def test_what_a_sample_goes_through_does_not_depend_on_the_batches(train):
    small, large = (by_sample(loader(train, batch_size=size).epoch(1)) for size in (3, 10))
    assert len(small) == 21
    assert all(torch.equal(small[i], image) for i, image in large.items())


def test_a_single_last_sample_is_left_out(train):
    assert [len(batch.labels) for batch in loader(train, batch_size=10).epoch(0)] == [10, 10]
    assert len(loader(train, batch_size=10)) == 2


def test_the_index_is_left_out_where_nobody_needs_it(train):
    batch = next(iter(loader(train, needs=Needs()).epoch(0)))
    assert batch.indices is None
    assert batch.images.dtype == torch.float32
    assert batch.images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_models_random_numbers_are_left_alone(train, workers):
    before = torch.get_rng_state()
    list(loader(train, workers=workers).epoch(0))
    list(evaluation(train, workers=workers))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_gives_all_in_order_as_a_loaded_run_sees_them(source, workers):
    from PIL import Image

    data = source.load(seed=0).test
    batches = list(evaluation(data, workers=workers))
    assert len(batches) == 3
    assert torch.equal(torch.cat([batch.labels for batch in batches]), data.labels)
    transform = source.inference_transform()
    for position, image in enumerate(torch.cat([batch.images for batch in batches])):
        with Image.open(data.path(position)) as file:
            torch.testing.assert_close(image, transform(file.convert("RGB")), rtol=0, atol=1e-5)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_became_unreadable_is_named(train, workers):
    broken = train.path(11)
    broken.write_bytes(broken.read_bytes()[:300])
    with pytest.raises(DataError) as caught:
        list(loader(train, workers=workers).epoch(0))
    assert str(caught.value).startswith(f"{broken}: not a readable image")
    assert "Traceback" not in str(caught.value)
    with pytest.raises(DataError, match=broken.name):
        list(evaluation(train, workers=workers))


def test_what_cannot_work_is_refused(train):
    with pytest.raises(OptionError, match="augmentation.size=24 .* 32, the side"):
        loader(train, RandomResizedCrop(size=24))
    with pytest.raises(OptionError, match="augmentation='RandomResizedCrop' .*none or crop_flip"):
        loader(train.in_memory("digits"))
    with pytest.raises(OptionError, match="augmentation.padding=32"):
        loader(train, CropFlip(padding=32, padding_mode="reflect"))


def test_the_number_of_workers(monkeypatch):
    assert LoaderOptions(workers=3).num_workers == 3
    for cores, expected in ((1, 0), (2, 1), (8, 7), (64, 16)):
        monkeypatch.setattr(batches, "available_cores", lambda cores=cores: cores)
        assert LoaderOptions().num_workers == expected
    for wrong in (-1, "many", 2.5):
        with pytest.raises(OptionError, match="loader.workers=.* auto, or a whole number >= 0"):
            LoaderOptions(workers=wrong)
