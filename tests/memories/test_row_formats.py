import pytest
import torch

from selfkd.errors import OptionError
from selfkd.memories import HistoryOptions
from selfkd.memories.row_formats import TopClasses, choose_format

IMAGENET = (1_281_167, 1000, 4)


def test_the_rest_of_the_mass_is_spread_evenly():
    form = TopClasses(heads=1, num_classes=6, top_k=2)
    rows = torch.tensor([[[0.0625, 0.5, 0.0625, 0.25, 0.0625, 0.0625]]])
    values, classes = form.encode(rows)
    assert (values.dtype, classes.dtype) == (torch.float16, torch.int16)
    assert sorted(classes.flatten().tolist()) == [1, 3]
    assert torch.equal(form.decode((values, classes)), rows)


def test_rounding_never_leaves_less_than_nothing():
    form = TopClasses(heads=1, num_classes=4, top_k=3)
    rows = torch.tensor([[[0.99990, 0.00009, 0.00001, 0.0]]])  # the first is 1 in half precision
    read = form.decode(form.encode(rows))
    assert read.dtype == torch.float32
    assert (read >= 0).all()
    assert read.sum().item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("top_k", [1, 7, 99])
def test_it_errs_by_half_precision_on_what_it_keeps(top_k):
    form = TopClasses(heads=3, num_classes=100, top_k=top_k)
    rows = torch.randn(5, 3, 100, generator=torch.Generator().manual_seed(0)).mul(3).softmax(dim=2)
    read = form.decode(form.encode(rows))
    kept = rows.topk(top_k, dim=2).indices
    torch.testing.assert_close(read.gather(2, kept), rows.gather(2, kept), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(read.sum(dim=2), torch.ones(5, 3), rtol=1e-3, atol=0)


def test_many_classes_are_numbered_with_more_bits():
    form = TopClasses(heads=1, num_classes=40_000, top_k=1)
    rows = torch.zeros(1, 1, 40_000)
    rows[..., -1] = 1
    assert form.fields["classes"][1] == torch.int32
    assert torch.equal(form.decode(form.encode(rows)), rows)
    assert TopClasses(heads=1, num_classes=32_767, top_k=1).fields["classes"][1] == torch.int16


@pytest.mark.parametrize(
    ("options", "sizes", "name"),
    [
        ({}, (50_000, 100, 4), "all classes in float32"),
        ({}, IMAGENET, "top 12 classes in float16"),
        ({"dtype": "float16"}, (300_000, 1000, 4), "top 12 classes in float16"),
        ({"dtype": "float16"}, (240_000, 1000, 4), "all classes in float16"),
        ({}, (10**9, 12, 1), "all classes in float32"),
        ({"top_k": 0}, IMAGENET, "all classes in float32"),
        ({"top_k": 0, "dtype": "float16"}, IMAGENET, "all classes in float16"),
        ({"top_k": 8}, (50_000, 100, 4), "top 8 classes in float16"),
    ],
)
def test_the_form_follows_from_options_and_sizes_alone(options, sizes, name):
    assert choose_format(HistoryOptions(**options), *sizes)[0].name == name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 10}, "history.top_k=10 .* below the number of classes, 10; 0 keeps all of them"),
        ({"top_k": -1}, "history.top_k=-1 .*>= 0"),
        ({"top_k": True}, "history.top_k"),
        ({"dtype": "bfloat16"}, "history.dtype='bfloat16'"),
        ({"storage": "disk"}, "history.storage='disk' .*auto, device, memmap, pinned"),
    ],
)
def test_what_is_not_allowed_is_said(options, message):
    with pytest.raises(OptionError, match=message):
        choose_format(HistoryOptions(**options), 5, 10, 1)
