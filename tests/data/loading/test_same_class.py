from itertools import combinations

import pytest
import torch
from scipy.stats import chisquare

from selfkd.contract import Needs
from selfkd.data.augmentation.augmentations import CropFlip, RandomResizedCrop, Unchanged
from selfkd.data.augmentation.regularization import Cutout
from selfkd.data.loading.resident import TrainingLoader
from selfkd.data.loading.same_class import SameClassSampler
from selfkd.data.loading.streaming import StreamingTrainingLoader
from selfkd.data.sources.imagenet import ImageNet
from selfkd.data.splits import ImageSet

# Python 3.12 and later warn when torch forks the workers of a loader.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
LABELS = torch.tensor([2, 0, 1, 1, 0, 2, 1, 1, 4, 1, 0])  # class 3 is empty, class 4 has one sample


def drawn(count, distinct, times=1500):
    followers = SameClassSampler(LABELS, count, distinct)
    generator = torch.Generator().manual_seed(0)
    return torch.stack([followers.draw(generator) for _ in range(times)], dim=1)  # [count, times, N]


def of_class(label):
    return (label == LABELS).nonzero().flatten().tolist()


@pytest.mark.parametrize("distinct", [False, True])
def test_followers_are_of_the_anchors_class(distinct):
    assert (LABELS[drawn(3, distinct, 50)] == LABELS).all()
    assert (drawn(3, distinct, 50)[:, :, 8] == 8).all(), "a sample alone in its class follows itself"


def test_a_follower_is_any_of_its_class_with_equal_chance():
    followers = drawn(2, distinct=False)
    for sample in of_class(0) + of_class(1) + of_class(2):
        counts = followers[:, :, sample].flatten().bincount(minlength=len(LABELS))[of_class(LABELS[sample])]
        assert counts.sum() == 3000
        assert chisquare(counts).pvalue > 0.001


def test_distinct_followers_are_any_of_the_others_with_equal_chance():
    followers = drawn(2, distinct=True)
    for sample in of_class(1):
        pairs = list(map(tuple, followers[:, :, sample].sort(dim=0).values.T.tolist()))
        others = [other for other in of_class(1) if other != sample]
        counts = [pairs.count(pair) for pair in combinations(others, 2)]
        assert sum(counts) == len(pairs), "two others, and not the same twice"
        assert chisquare(counts).pvalue > 0.001
        assert chisquare(followers[0, :, sample].bincount(minlength=11)[others]).pvalue > 0.001


def test_where_the_others_are_too_few_they_come_again():
    followers = drawn(3, distinct=True)
    for sample in of_class(0):
        others = [other for other in of_class(0) if other != sample]
        assert set(followers[:, :, sample].flatten().tolist()) == set(others)
        assert chisquare(followers[:, :, sample].flatten().bincount(minlength=11)[others]).pvalue > 0.001
    assert set(followers[:, :, 0].flatten().tolist()) == {5}


def image_set(samples=26):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (samples, 3, 8, 8), generator=generator, dtype=torch.uint8)
    return ImageSet(images, torch.arange(samples) % 3)


def loader(needs, augmentation=None, batch_size=4, cutout=None, data=None):
    return TrainingLoader(
        data or image_set(),
        augmentation or CropFlip(padding=2),
        MEAN,
        STD,
        batch_size,
        0,
        needs,
        cutout=cutout,
    )


def pixels(batch):
    """The uint8 images behind a batch."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return ((batch.images * std + mean) * 255).round().to(torch.uint8)


TUPLES = Needs(sample_index=True, views=2, same_class=3)


def test_the_layout_of_a_batch_is_the_contracts():
    data = image_set()
    batches = list(loader(TUPLES, Unchanged()).epoch(0))
    assert [len(batch.labels) for batch in batches] == [16] * 6 + [8]
    anchors = torch.cat([batch.indices[: batch.anchors] for batch in batches])
    assert anchors.sort().values.tolist() == list(range(26)), "every sample is an anchor once"
    for batch in batches:
        assert batch.views == 2
        assert torch.equal(batch.labels, data.labels[batch.indices])
        labels = batch.labels.unflatten(0, (4, -1))
        assert (labels == labels[0]).all()
        images = pixels(batch).unflatten(0, (2, 4, -1))
        for view in images:
            assert torch.equal(view.flatten(0, 1), data.images[batch.indices])


def test_the_first_view_of_anchors_is_what_it_was_without_the_others():
    alone, together = (list(loader(needs).epoch(3)) for needs in (Needs(sample_index=True), TUPLES))
    for plain, batch in zip(alone, together, strict=True):
        anchors = len(plain.labels)
        assert torch.equal(batch.images[:anchors], plain.images)
        assert torch.equal(batch.indices[:anchors], plain.indices)


def views_by_anchor(needs, **options):
    """`[V, S, C, H, W]` of every anchor."""
    result = {}
    for batch in loader(needs, **options).epoch(1):
        members = batch.unstacked(batch.images)
        result |= {int(index): members[:, :, i] for i, index in enumerate(batch.indices[: members.shape[2]])}
    return result


@pytest.mark.parametrize("cutout", [None, Cutout(4)], ids=["whole", "holes"])
def test_what_a_tuple_is_and_goes_through_does_not_depend_on_the_batches(cutout):
    small, large = (views_by_anchor(TUPLES, batch_size=size, cutout=cutout) for size in (2, 13))
    assert len(small) == 26
    assert all(torch.equal(small[i], large[i]) for i in range(26))


def test_views_and_followers_are_augmented_independently():
    flat = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8).expand(500, 3, 8, 8)
    data = ImageSet(flat, torch.arange(500) % 2)  # one image, so that what differs is the augmentation
    needs = Needs(sample_index=True, views=2, same_class=1)
    images = torch.stack(list(views_by_anchor(needs, data=data, batch_size=50).values())).flatten(1, 2)
    for first, second in combinations(range(4), 2):
        equal = (images[:, first] == images[:, second]).flatten(1).all(dim=1).sum()
        assert equal < 30, "10 expected: of 5 x 5 offsets and 2 flips the same"


@pytest.fixture
def files(digits_as_imagenet):
    return ImageNet(root=str(digits_as_imagenet), image_size=32, resize=36, mean=MEAN, std=STD).load(seed=0).train


@pytest.mark.parametrize("augmentation", [RandomResizedCrop(size=32), CropFlip(padding=4)], ids=["whole", "batches"])
def test_files_give_tuples_too_and_workers_change_nothing(files, augmentation):
    def batches(workers, batch_size=4):
        loader = StreamingTrainingLoader(files, augmentation, MEAN, STD, batch_size, 0, TUPLES, workers=workers)
        return list(loader.epoch(1))

    alone, helped = batches(0), batches(2)
    for ours, theirs in zip(alone, helped, strict=True):
        assert torch.equal(ours.images, theirs.images)
        assert torch.equal(ours.indices, theirs.indices)
        assert torch.equal(ours.labels, files.labels[ours.indices])
        assert ours.images.shape == (2 * len(ours.labels), 3, 32, 32)
    if augmentation.side_of_whole_images is None:
        held = loader(TUPLES, augmentation, data=files.in_memory("digits")).epoch(1)
        assert all(torch.equal(a.images, b.images) for a, b in zip(alone, held, strict=True))
