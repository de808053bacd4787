import numpy as np
import pytest
import torch
from scipy.stats import beta, chisquare, kstest
from torchvision.transforms import v2

from selfkd.contract import Needs
from selfkd.data.augmentation.augmentations import CropFlip, RandomResizedCrop, Unchanged
from selfkd.data.augmentation.random_streams import BELOW
from selfkd.data.augmentation.regularization import Cutout, Mixing, Regularization, WithPolicy
from selfkd.data.loading.batches import LoaderOptions
from selfkd.data.loading.loaders import training_loader
from selfkd.data.loading.resident import TrainingLoader
from selfkd.data.loading.streaming import StreamingTrainingLoader
from selfkd.data.splits import ImageSet
from selfkd.errors import OptionError

# Python 3.12 and later warn when torch forks the workers of a loader.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
POLICIES = {
    "autoaugment_cifar10": v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10),
    "autoaugment_imagenet": v2.AutoAugment(v2.AutoAugmentPolicy.IMAGENET),
    "randaugment": v2.RandAugment(),
    "trivialaugment": v2.TrivialAugmentWide(),
}
CLASSES = 4


def image_set(samples=22):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (samples, 3, 16, 16), generator=generator, dtype=torch.uint8)
    return ImageSet(images, torch.arange(samples) % CLASSES)


def loader(augmentation=None, needs=None, workers=0, seed=0, batch_size=5, **options):
    return training_loader(
        image_set(),
        augmentation or CropFlip(padding=2),
        MEAN,
        STD,
        LoaderOptions(batch_size=batch_size, workers=workers),
        seed,
        needs or Needs(sample_index=True),
        True,
        CLASSES,
        Regularization(**options),
    )


def same(first, second):
    return all(
        torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels) for a, b in zip(first, second, strict=True)
    )


def numbers_for(centres, length):
    """Draws that give these centres in images of this length."""
    return (torch.tensor(centres) * BELOW + BELOW // 2) // length


def test_a_hole_is_that_of_the_authors_release():
    images = torch.ones(6, 3, 10, 12)
    rows, columns = [0, 9, 5, 2, 1, 8], [0, 11, 6, 11, 1, 3]
    draws = torch.stack([numbers_for(rows, 10), numbers_for(columns, 12)], dim=1)
    cut = Cutout(4)(images.clone(), draws)
    for image, row, column in zip(cut, rows, columns, strict=True):
        expected = np.ones((3, 10, 12))
        top, bottom = np.clip([row - 2, row + 2], 0, 10)
        left, right = np.clip([column - 2, column + 2], 0, 12)
        expected[:, top:bottom, left:right] = 0
        assert np.array_equal(image.numpy(), expected)


def test_holes_lie_anywhere_with_equal_chance():
    draws = Cutout(2).draw(8000, torch.Generator().manual_seed(0))
    cut = Cutout(2)(torch.ones(8000, 1, 5, 8), draws)
    corners = (cut == 0).flatten(1).int().flip(1).argmax(dim=1)  # the last pixel of a hole is its centre
    assert chisquare(corners.bincount(minlength=40)).pvalue > 0.01


def test_every_sample_has_its_hole_whatever_the_batch():
    def holes(**options):
        found = {}
        for batch in loader(Unchanged(), cutout=6, **options).epoch(1):
            found |= dict(zip(batch.indices.tolist(), batch.images == 0, strict=True))
        return found

    one, other = holes(), holes(batch_size=11)
    assert len(one) == 22
    assert all(torch.equal(one[i], other[i]) for i in range(22))
    assert len({one[i].numpy().tobytes() for i in range(22)}) > 15
    assert not same(loader(cutout=6).epoch(0), loader(cutout=6).epoch(1))


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_is_torchvisions_seeded_by_the_draw(policy):
    images = image_set().images
    augmentation = WithPolicy(CropFlip(padding=2), policy)
    draws = augmentation.draw(len(images), torch.Generator().manual_seed(4))
    before = torch.get_rng_state()
    ours = augmentation(images, draws)
    assert torch.equal(torch.get_rng_state(), before), "the model's random numbers are left alone"
    cropped = CropFlip(padding=2)(images, draws[:, :3])
    assert torch.equal(draws[:, :3], CropFlip(padding=2).draw(len(images), torch.Generator().manual_seed(4)))
    for image, seed, changed in zip(cropped, draws[:, 3].tolist(), ours, strict=True):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            assert torch.equal(changed, POLICIES[policy](image))
    assert not torch.equal(ours, cropped)


def test_a_policy_is_worked_off_by_processes_which_change_nothing():
    assert isinstance(loader(), TrainingLoader)
    alone, helped = (loader(policy="trivialaugment", cutout=4, workers=workers) for workers in (0, 2))
    assert isinstance(alone, StreamingTrainingLoader)
    assert same(alone.epoch(2), helped.epoch(2))
    assert not same(alone.epoch(2), loader(cutout=4).epoch(2))


def test_a_policy_follows_parts_of_whole_images():
    augmentation = WithPolicy(RandomResizedCrop(size=8), "randaugment")
    assert augmentation.side_of_whole_images == 8
    assert augmentation(image_set().images, augmentation.draw(22, torch.Generator())).shape == (22, 3, 8, 8)


def test_mixup_mixes_images_and_labels_by_one_share():
    (plain,) = loader(Unchanged(), batch_size=22).epoch(0)
    (mixed,) = loader(Unchanged(), Needs(), batch_size=22, mixup=1.0).epoch(0)
    one_hot = torch.nn.functional.one_hot(plain.labels, CLASSES).float()
    share = ((mixed.images[0] - plain.images[-1]) / (plain.images[0] - plain.images[-1])).nanmedian()
    assert 0 < share < 1
    torch.testing.assert_close(mixed.images, share * plain.images + (1 - share) * plain.images.roll(1, 0))
    torch.testing.assert_close(mixed.labels, share * one_hot + (1 - share) * one_hot.roll(1, 0))
    assert mixed.labels.dtype == torch.float32
    assert mixed.images.is_contiguous(memory_format=torch.channels_last)


def test_cutmix_pastes_a_box_and_labels_by_its_area():
    mixing = Mixing(0, 1, 2)
    images = torch.cat([torch.zeros(1, 1, 20, 30), torch.ones(1, 1, 20, 30)])
    areas = []
    for seed in range(200):
        mixed, labels = mixing(images, torch.tensor([0, 1]), seed)
        pasted = mixed[0, 0] == 1
        rows, columns = pasted.any(dim=1).sum(), pasted.any(dim=0).sum()
        assert pasted.sum() == rows * columns, "one box"
        torch.testing.assert_close(labels[0, 1], pasted.float().mean())
        torch.testing.assert_close(labels.sum(dim=1), torch.ones(2))
        areas.append(float(labels[0, 1]))
    assert 0.2 < np.mean(areas) < 0.5, "a half, less what lies beyond the border"


def test_the_share_of_mixup_is_of_its_beta_distribution():
    mixing = Mixing(0.4, 0.0, 2)
    images, labels = torch.zeros(2, 1, 1, 1), torch.tensor([0, 1])
    shares = [float(mixing(images, labels, seed)[1][0, 0]) for seed in range(1000)]
    assert kstest(shares, beta(0.4, 0.4).cdf).pvalue > 0.01


def test_mixtures_follow_from_seed_epoch_and_step():
    def shares(epoch, **options):
        batches = loader(needs=Needs(), mixup=1.0, batch_size=6, **options).epoch(epoch)
        return [float(batch.labels[batch.labels > 0].min()) for batch in batches]

    before = torch.get_rng_state()
    first = shares(0)
    assert torch.equal(torch.get_rng_state(), before)
    assert first == shares(0)
    assert len(set(first)) == len(first), "each step has its own"
    assert not set(first) & {*shares(1), *shares(0, seed=1)}


def test_with_both_each_batch_draws_one():
    mixing = Mixing(1.0, 1.0, 2)
    images = torch.cat([torch.zeros(1, 1, 9, 9), torch.ones(1, 1, 9, 9)])
    mixed = [mixing(images, torch.tensor([0, 1]), seed)[0] for seed in range(100)]
    pasted = sum(bool(((pixels == 0) | (pixels == 1)).all()) for pixels in mixed)
    assert 35 < pasted < 65


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": "random"}, "regularization.policy='random' .* autoaugment_cifar10"),
        ({"cutout": 7}, "regularization.cutout=7 .* an even whole number >= 0"),
        ({"cutout": -2}, "regularization.cutout=-2"),
        ({"mixup": -1.0}, "regularization.mixup=-1.0"),
        ({"cutmix": 1e-300}, "regularization.cutmix=1e-300 .* from 0.01 to 1000"),
        ({"mixup": float("nan")}, "regularization.mixup=nan"),
        ({"cutmix": float("inf")}, "regularization.cutmix=inf"),
    ],
)
def test_values_out_of_range_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        Regularization(**options)


@pytest.mark.parametrize(
    ("needs", "message"),
    [
        (Needs(sample_index=True), "needs the sample index"),
        (Needs(views=2), "needs several views"),
        (Needs(same_class=1), "needs other samples of the same class"),
    ],
)
def test_mixtures_are_refused_where_they_make_no_sense(needs, message):
    with pytest.raises(OptionError, match=f"regularization.cutmix=1.0 .* 0 with a method that {message}"):
        loader(needs=needs, cutmix=1.0)


def test_a_hole_larger_than_the_images_is_refused():
    assert len(list(loader(cutout=16).epoch(0))) == 5
    with pytest.raises(OptionError, match="regularization.cutout=18 .* at most 16, the side of the images"):
        loader(cutout=18)
