import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from selfkd.data.sources.digits import Digits
from selfkd.errors import OptionError


def test_ten_of_each_class_train_and_all_others_test():
    splits = Digits().load(seed=0)
    assert splits.train.images.shape == (100, 3, 16, 16)
    assert splits.train.images.dtype == torch.uint8
    assert splits.train.labels.bincount().tolist() == [10] * 10
    assert len(splits.test) == 1697
    assert splits.class_names == tuple("0123456789")
    assert splits.selection[0] == "test"


def test_every_scan_is_in_one_split_once():
    splits = Digits(image_size=8).load(seed=3)
    everything = torch.cat([splits.train.images, splits.test.images]).flatten(1)
    original = torch.from_numpy(load_digits().images).mul(255 / 16).round().to(torch.uint8)
    expected = original[:, None].expand(-1, 3, -1, -1).flatten(1)
    assert sorted(map(tuple, everything.tolist())) == sorted(map(tuple, expected.tolist()))


def test_the_seed_decides_which_train():
    first, again, other = (Digits().load(seed).train.images for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_validation_split_is_held_out_of_training_stratified():
    splits = Digits(train_per_class=20, validation_fraction=0.25).load(seed=0)
    assert len(splits.train) == 150
    assert splits.validation.labels.bincount().tolist() == [5] * 10
    assert splits.selection[0] == "validation"
    assert splits.info.num_samples == 150


def test_an_image_file_becomes_what_the_network_was_trained_on():
    source = Digits()
    scan = load_digits().images[7]
    image = Image.fromarray((scan * (255 / 16)).round().astype("uint8"))
    held = source.image_transform()(image)
    assert any(
        torch.equal(held, each) for each in torch.cat([s.images for s in (source.load(0).train, source.load(0).test)])
    )
    assert torch.equal(source.image_transform()(image.convert("RGB")), held), "as predict opens it"
    normalised = source.inference_transform()(image)
    expected = (held / 255 - torch.tensor(source.mean).view(3, 1, 1)) / torch.tensor(source.std).view(3, 1, 1)
    assert torch.allclose(normalised, expected, atol=1e-6)


def test_the_default_normalisation_is_that_of_the_scans():
    images = torch.cat([split.images for split in (Digits().load(0).train, Digits().load(0).test)]) / 255
    assert images.mean().item() == pytest.approx(Digits().mean[0], abs=2e-3)
    assert images.std().item() == pytest.approx(Digits().std[0], abs=2e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_per_class": 0}, "data.train_per_class=0"),
        ({"train_per_class": 174}, "data.train_per_class=174 .* below 174"),
        ({"image_size": 4}, "data.image_size=4"),
        ({"validation_fraction": 1.0}, r"data.validation_fraction=1.0 .* \[0, 1\)"),
        ({"validation_fraction": 0.001}, "data.validation_fraction=0.001"),
        ({"std": (0.3, 0.0, 0.3)}, "data.std=.*> 0"),
        ({"mean": (0.3,)}, "data.mean=.*red, green, blue"),
    ],
)
def test_values_out_of_range_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        Digits(**options).load(seed=0)
