import pytest
import torch
import torchvision
from scipy.stats import ks_2samp
from torchvision.transforms import v2

from selfkd.data.augmentation.augmentations import CropFlip, RandomResizedCrop, Unchanged
from selfkd.errors import OptionError


def images(batch=6, side=8):
    return torch.randint(0, 256, (batch, 3, side, side), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.mark.parametrize("mode", ["zeros", "reflect"])
def test_it_equals_torchvisions_crop_and_flip(mode):
    augmentation = CropFlip(padding=3, padding_mode=mode)
    originals = images()
    draws = torch.tensor([[0, 0, 0], [6, 6, 0], [3, 3, 1], [1, 5, 1], [6, 0, 1], [2, 4, 0]])
    changed = augmentation(originals, draws)
    for original, (down, right, flip), ours in zip(originals, draws.tolist(), changed, strict=True):
        padding_mode = "constant" if mode == "zeros" else mode
        padded = v2.functional.pad(original.float(), [3], padding_mode=padding_mode).to(torch.uint8)
        expected = v2.functional.crop(padded, down, right, 8, 8)
        assert torch.equal(ours, v2.functional.horizontal_flip(expected) if flip else expected)


def test_draws_are_uniform():
    draws = CropFlip(padding=4).draw(90_000, torch.Generator().manual_seed(0))
    assert draws.shape == (90_000, 3)
    for column in (0, 1):
        counts = draws[:, column].bincount(minlength=9).double()
        assert len(counts) == 9
        assert ((counts - 10_000).abs() < 5 * 100).all()  # five standard deviations
    assert draws[:, 2].double().mean().item() == pytest.approx(0.5, abs=0.01)


def test_flipping_can_be_switched_off():
    assert CropFlip(horizontal_flip=False).draw(1000, torch.Generator().manual_seed(0))[:, 2].max() == 0


def test_unchanged_changes_nothing():
    originals = images()
    assert torch.equal(Unchanged()(originals, Unchanged().draw(6, torch.Generator())), originals)


def test_values_out_of_range_are_refused():
    with pytest.raises(OptionError, match="augmentation.padding=-1"):
        CropFlip(padding=-1)
    with pytest.raises(OptionError, match="augmentation.padding=8 .* below the image's side 8"):
        CropFlip(padding=8, padding_mode="reflect")(images(), torch.zeros(6, 3, dtype=torch.int64))


def windows(crops):
    """Area, aspect and whether it was flipped, of crops of `ramps`, from how steep the ramps are in them."""
    right, down = crops[:, 0, 8].double(), crops[:, 1, :, 8].double()
    width, height = right[:, -1] - right[:, 0], down[:, -1] - down[:, 0]
    return width.abs() * height, width.abs() / height, width < 0


def ramps(height=60, width=80):
    """One channel that rises to the right, one that rises downwards."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([columns * 3, rows * 3, columns]).to(torch.uint8)


def test_random_parts_are_distributed_as_torchvisions():
    samples = 3000
    augmentation = RandomResizedCrop(size=16)
    draws = augmentation.draw(samples, torch.Generator().manual_seed(0))
    ours = augmentation(ramps().expand(samples, -1, -1, -1), draws)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        crop = torchvision.transforms.RandomResizedCrop(16, antialias=True)
        theirs = torch.stack([crop(ramps()) for _ in range(samples)])
    areas, aspects, flipped = windows(ours)
    their_areas, their_aspects, _ = windows(theirs)
    assert ks_2samp(areas, their_areas).pvalue > 0.01
    assert ks_2samp(aspects, their_aspects).pvalue > 0.01
    assert flipped.double().mean().item() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_a_draw_is_a_seed_of_torchvisions_transforms(interpolation):
    augmentation = RandomResizedCrop(size=12, scale=(0.3, 0.6), ratio=(0.5, 1.0), interpolation=interpolation)
    draws = augmentation.draw(20, torch.Generator().manual_seed(3))
    before = torch.get_rng_state()
    ours = augmentation(ramps().expand(20, -1, -1, -1), draws)
    assert torch.equal(torch.get_rng_state(), before), "the model's random numbers are left alone"
    for (seed,), crop in zip(draws.tolist(), ours, strict=True):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            window = v2.RandomResizedCrop.get_params(ramps(), scale=[0.3, 0.6], ratio=[0.5, 1.0])
            flip = torch.rand(1).item() < 0.5
        expected = v2.functional.resized_crop(ramps(), *window, [12, 12], v2.InterpolationMode(interpolation))
        assert torch.equal(crop, v2.functional.horizontal_flip(expected) if flip else expected)


def test_draws_of_random_parts_use_all_bits_that_count():
    draws = RandomResizedCrop().draw(10_000, torch.Generator().manual_seed(0))
    assert draws.shape == (10_000, 1)
    assert draws.min() >= 0
    assert 2**31 < draws.max() < 2**32
    assert len(draws.unique()) > 9_990


def test_random_parts_need_not_be_flipped():
    augmentation = RandomResizedCrop(size=16, horizontal_flip=False)
    draws = augmentation.draw(50, torch.Generator().manual_seed(0))
    assert not windows(augmentation(ramps().expand(50, -1, -1, -1), draws))[2].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "augmentation.size=0"),
        ({"interpolation": "best"}, "augmentation.interpolation='best' .* one of bicubic, bilinear"),
        ({"scale": (0.0, 1.0)}, r"augmentation.scale=\(0.0, 1.0\) .* \(0, 1\]"),
        ({"scale": (0.8, 0.2)}, "augmentation.scale=.*the smaller one first"),
        ({"ratio": (0.75, float("inf"))}, "augmentation.ratio=.*from 0.001 to 1000"),
    ],
)
def test_parts_out_of_range_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        RandomResizedCrop(**options)
