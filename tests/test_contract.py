import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch

from selfkd.contract import Batch, DatasetInfo, Needs, Progress
from selfkd.errors import BatchError


def test_records_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Needs().views = 2


def test_a_batch_moves_whole():
    batch = Batch(torch.zeros(2, 3, 4, 4), torch.tensor([0, 1]), torch.tensor([5, 6]), views=1).to("meta")
    assert {batch.images.device.type, batch.labels.device.type, batch.indices.device.type} == {"meta"}
    assert Batch(torch.zeros(1, 3, 4, 4), torch.tensor([0])).to("meta").indices is None


def test_indices_that_leave_main_memory_are_kept_there_too():
    batch = Batch(torch.zeros(2, 3, 4, 4), torch.tensor([0, 1]), torch.tensor([5, 6]))
    moved = batch.to("meta")
    assert moved.host_indices is batch.indices
    assert moved.to("meta").host_indices is batch.indices


@pytest.mark.parametrize("name", ["images", "labels", "indices", "host_indices"])
@pytest.mark.parametrize("value", [[0, 1], np.array([0, 1]), None])
def test_a_batch_holds_tensors(name, value):
    parts = {"images": torch.zeros(2, 3, 4, 4), "labels": torch.tensor([0, 1]), name: value}
    if value is None and name.endswith("indices"):
        Batch(**parts)
        return
    with pytest.raises(BatchError, match=rf"Batch.{name} must be a torch.Tensor.*, not {type(value).__name__}; .*as_t"):
        Batch(**parts)


@pytest.mark.parametrize("wrong", [{"views": 0}, {"same_class": -1}, {"stages": "some"}])
def test_needs_must_make_sense(wrong):
    with pytest.raises(ValueError, match=f"Needs.*{next(iter(wrong))}="):
        Needs(**wrong)


def test_needs_together_are_those_of_each():
    views, index = Needs(views=2), Needs(sample_index=True, same_class=1, stages="halving")
    both = Needs(sample_index=True, views=2, same_class=1, stages="halving")
    assert views | index == index | views == both
    assert views | Needs() == views
    every = Needs(True, 2, 1, True, labels=True, teacher=True, peer=True, stages="halving")
    assert every | Needs() == Needs() | every == every
    assert every | Needs(stages="halving") == every


def test_needs_of_other_stages_are_not_together():
    with pytest.raises(ValueError, match=r"Needs\(stages='halving'\) and Needs\(stages='halving_or_equal'\)"):
        Needs(stages="halving") | Needs(stages="halving_or_equal")


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Needs)])
def test_no_need_is_lost_beside_those_of_another(field):
    default = getattr(Needs(), field)
    more = {bool: True, int: 2, str: "halving"}[type(default)]
    assert getattr(Needs(**{field: more}) | Needs(), field) == more


# Two views of two anchors with one follower each: V = 2, n = 1, A = 2.
STACKED = Batch(torch.arange(8.0).view(8, 1, 1, 1), torch.tensor([3, 5, 3, 5]), torch.tensor([0, 1, 2, 3]), 2, None, 1)


def test_a_batch_unfolds_into_views_members_and_anchors():
    assert STACKED.anchors == 2
    images = STACKED.unstacked(STACKED.images)
    assert images.shape == (2, 2, 2, 1, 1, 1)
    assert images[1, 0, :].flatten().tolist() == [4, 5], "second view of the anchors"
    assert images[0, 1, :].flatten().tolist() == [2, 3], "their followers"
    assert STACKED.unstacked(STACKED.indices).tolist() == [[[0, 1], [2, 3]]]
    assert STACKED.unstacked(torch.zeros(8, 7)).shape == (2, 2, 2, 7)
    assert images.data_ptr() == STACKED.images.data_ptr()
    channels_last = torch.zeros(8, 3, 4, 4).to(memory_format=torch.channels_last)
    assert STACKED.unstacked(channels_last).shape == (2, 2, 2, 3, 4, 4)
    with pytest.raises(BatchError, match="6 rows; expected one for each of the 4 samples, or one for each of their 8"):
        STACKED.unstacked(torch.zeros(6, 7))


@pytest.mark.parametrize(("count", "expected"), [(2, [3, 5]), (4, [3, 5, 3, 5]), (8, [3, 5, 3, 5, 3, 5, 3, 5])])
def test_what_is_known_of_samples_is_known_of_their_images(count, expected):
    assert STACKED.for_images(STACKED.labels, count).tolist() == expected
    assert STACKED.for_images(torch.eye(4), count).shape == (count, 4)


@pytest.mark.parametrize("count", [0, 3, 6, 12])
def test_rows_of_half_a_view_are_refused(count):
    with pytest.raises(BatchError, match=f"{count} rows are not a number of whole views: the batch has 4 samples"):
        STACKED.for_images(STACKED.labels, count)


@pytest.mark.parametrize(("epoch", "total"), [(-1, 3), (3, 3), (0, 0)])
def test_progress_lies_within_the_run(epoch, total):
    with pytest.raises(ValueError, match="counts from 0"):
        Progress(epoch, total)


def test_a_data_set_must_make_sense():
    with pytest.raises(ValueError, match="2 classes"):
        DatasetInfo(10, 1)
    with pytest.raises(ValueError, match="at least 1 sample"):
        DatasetInfo(0, 2)
    with pytest.raises(ValueError, match="3 class_names for num_classes=2"):
        DatasetInfo(10, 2, class_names=("a", "b", "c"))


def test_the_contract_and_the_tables_import_no_torch():
    code = (
        "import sys, selfkd.contract, selfkd.methods, selfkd.data, selfkd.backbones, selfkd.supervision; "
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
