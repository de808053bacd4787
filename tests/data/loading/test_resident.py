from types import SimpleNamespace

import pytest
import torch
from scipy.stats import chi2_contingency, chisquare
from torchvision.transforms import v2

from selfkd.contract import Needs
from selfkd.data.augmentation.augmentations import CropFlip, Unchanged
from selfkd.data.loading.batches import LoaderOptions
from selfkd.data.loading.loaders import training_loader
from selfkd.data.loading.resident import EvaluationLoader, TrainingLoader, _placed
from selfkd.data.splits import ImageSet
from selfkd.errors import DataError, OptionError

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def image_set(samples=10):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (samples, 3, 8, 8), generator=generator, dtype=torch.uint8)
    return ImageSet(images, torch.arange(samples) % 3)


def loader(samples=10, batch_size=4, seed=0, augmentation=None, needs=None):
    return TrainingLoader(
        image_set(samples),
        augmentation or CropFlip(padding=2),
        MEAN,
        STD,
        batch_size,
        seed,
        needs or Needs(sample_index=True),
    )


def pixels(batch):
    """The uint8 images behind a batch."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return ((batch.images * std + mean) * 255).round().to(torch.uint8)


def test_every_sample_comes_once_an_epoch_with_its_index_and_label():
    data = image_set()
    batches = list(loader(augmentation=Unchanged()).epoch(0))
    assert [len(batch.labels) for batch in batches] == [4, 4, 2]
    assert torch.cat([batch.indices for batch in batches]).sort().values.tolist() == list(range(10))
    for batch in batches:
        assert torch.equal(pixels(batch), data.images[batch.indices])
        assert torch.equal(batch.labels, data.labels[batch.indices])


def test_the_index_is_left_out_where_nobody_needs_it():
    assert next(iter(loader(needs=Needs()).epoch(0))).indices is None


def by_sample(batches):
    return {int(i): image for batch in batches for i, image in zip(batch.indices, batch.images, strict=True)}


def test_an_epoch_can_be_repeated_and_epochs_and_seeds_differ():
    first, again, later, other = (
        list(loader(seed=seed).epoch(epoch)) for seed, epoch in ((0, 2), (0, 2), (0, 3), (1, 2))
    )
    assert all(torch.equal(a.images, b.images) for a, b in zip(first, again, strict=True))
    for different in (later, other):
        assert not torch.equal(first[0].indices, different[0].indices)
        assert any(not torch.equal(by_sample(first)[i], by_sample(different)[i]) for i in range(10))


def test_what_a_sample_goes_through_does_not_depend_on_the_batches():
    small, large = (by_sample(loader(batch_size=size).epoch(1)) for size in (2, 5))
    assert all(torch.equal(small[i], large[i]) for i in range(10))


def test_a_single_last_sample_is_left_out():
    lengths = [len(batch.labels) for batch in loader(samples=9, batch_size=4).epoch(0)]
    assert lengths == [4, 4]
    assert len(loader(samples=9, batch_size=4)) == 2


def test_layout_and_type():
    images = next(iter(loader().epoch(0))).images
    assert images.dtype == torch.float32
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_evaluation_gives_all_in_order_unchanged():
    data = image_set()
    evaluation = EvaluationLoader(data, MEAN, STD, batch_size=4)
    batches = list(evaluation)
    assert len(batches) == len(evaluation) == 3
    assert torch.equal(torch.cat([pixels(batch) for batch in batches]), data.images)
    assert torch.equal(torch.cat([batch.labels for batch in batches]), data.labels)


def test_what_cannot_be_given_is_refused():
    with pytest.raises(DataError, match="needs at least 2"):
        loader(samples=1)
    with pytest.raises(OptionError, match="loader.batch_size=1 .* >= 2"):
        LoaderOptions(batch_size=1)


def outcomes(images):
    """Each image as bytes."""
    return [image.contiguous().numpy().tobytes() for image in images]


def test_crops_and_flips_are_uniform_and_distributed_as_torchvisions():
    """All images are one; what comes out names its offset and flip, for no two look alike."""
    samples = 6000
    image = torch.arange(1, 193, dtype=torch.uint8).view(3, 8, 8)
    data = ImageSet(image.expand(samples, 3, 8, 8), torch.zeros(samples, dtype=torch.int64))
    batches = list(TrainingLoader(data, CropFlip(padding=2), MEAN, STD, 500, 0, Needs(sample_index=True)).epoch(0))
    assert torch.cat([batch.indices for batch in batches]).sort().values.tolist() == list(range(samples))
    ours = outcomes(torch.cat([pixels(batch) for batch in batches]))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        change = v2.Compose([v2.RandomCrop(8, padding=2), v2.RandomHorizontalFlip()])
        theirs = outcomes(change(image) for _ in range(samples))
    padded = torch.nn.functional.pad(image, [2] * 4)
    windows = [padded[:, down : down + 8, right : right + 8] for down in range(5) for right in range(5)]
    possible = outcomes([*windows, *(window.flip(2) for window in windows)])
    assert len(set(possible)) == 50
    counts = [[seen.count(outcome) for outcome in possible] for seen in (ours, theirs)]
    assert list(map(sum, counts)) == [samples, samples]
    assert chisquare(counts[0]).pvalue > 0.01
    assert chi2_contingency(counts).pvalue > 0.01


def test_images_stay_in_main_memory_where_the_device_has_no_room(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100_000, 1_000_000))
    labels = SimpleNamespace(device=torch.device("cuda", 0))  # what of the labels is looked at; no GPU is needed
    data = ImageSet(torch.zeros(10, 3, 32, 32, dtype=torch.uint8), torch.zeros(10, dtype=torch.int64))
    assert _placed(data, labels, share=0.25).images.device.type == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_device_without_room_gives_the_same_batches(share):
    images = torch.randint(0, 256, (10, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    data = ImageSet(images, torch.arange(10))
    arguments = (data, CropFlip(padding=4), (0.5,) * 3, (0.5,) * 3, 4, 0, Needs(sample_index=True))
    expected, loader = TrainingLoader(*arguments), TrainingLoader(*arguments, device_share=share)
    loader.to("cuda")
    assert loader.data.images.is_cuda == (share > 0)
    for batch, other in zip(loader.epoch(1), expected.epoch(1), strict=True):
        torch.testing.assert_close(batch.images.cpu(), other.images)
        assert batch.indices.tolist() == other.indices.tolist()


@pytest.mark.parametrize(("batch_size", "said"), [(10, False), (11, True)])
def test_a_batch_larger_than_the_training_set_is_said(caplog, batch_size, said):
    options = LoaderOptions(batch_size=batch_size, workers=0)
    built = training_loader(image_set(), Unchanged(), (0.5,) * 3, (0.5,) * 3, options, 0, Needs(), True, 2)
    assert len(built) == 1
    assert ("loader.batch_size=11 is larger than the training set of 10 images" in caplog.text) == said
