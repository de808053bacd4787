import pytest
import torch
from torchvision.transforms import v2

from selfkd.data.augmentation import CropFlip, Unchanged
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
