"""Every batch is looked at: at once in main memory, later where only a device knows what it holds."""

import copy
import dataclasses
from typing import ClassVar

import pytest
import torch

import seats
import selfkd
from selfkd.contract import Needs
from selfkd.errors import BatchError
from selfkd.methods import METHODS
from selfkd.methods.plain import Plain
from selfkd.methods.ps_kd import PSKD
from selfkd.value_ranges import IndexRange

START = selfkd.Progress(0, 1)
HALVES = torch.full((4, 10), 0.1)
SOFT = {
    "sums to 3": HALVES * 3,
    "has a share below 0": torch.tensor([[-0.5, 1.5, *[0.0] * 8]]).expand(4, -1),
    "is no number": HALVES * float("nan"),
}


def begun(name, backbone, data):
    method = seats.create_method(name, backbone, data)
    method.begin_epoch(START)
    return method


@pytest.fixture
def on_a_device(monkeypatch):
    """The CPU as a device whose values cannot be looked at for nothing."""
    for owner in ("selfkd.memories.history", "selfkd.methods.batch_checks"):
        monkeypatch.setattr(f"{owner}.readable_now", lambda values: False)


BAD_FORMS = [
    ({"indices": None}, "DTSKD needs sample_index: Batch.indices is None"),
    ({"views": 2}, "needs views=1, the batch has views=2"),
    ({"labels": torch.tensor([1, 2])}, "4 images for 2 labels"),
    ({"indices": torch.tensor([1, 2])}, "2 indices for 4 labels"),
    ({"host_indices": torch.tensor([1, 2])}, "2 host_indices for 4 labels"),
    ({"indices": torch.arange(4).float()}, r"takes indices \[B\] int64; these are \[4\] float32"),
    ({"labels": torch.tensor([1.0, 4, 7, 0])}, r"labels \[B\] int64, or soft labels.*these are \[4\] float32"),
    ({"labels": torch.eye(10, dtype=torch.int64)[:4]}, r"soft labels.*these are \[4, 10\] int64"),
    ({"labels": torch.full((4, 7), 1 / 7)}, "soft labels of 7 classes, the data has 10"),
    ({"images": torch.zeros(4, 3, 16, 16, device="meta")}, "images are on meta, the labels on cpu; see .*Batch.to"),
    ({"indices": torch.arange(4, device="meta")}, "images are on cpu, the indices on meta; see .*Batch.to"),
]
BAD_VALUES = [
    ({"labels": torch.tensor([1, 4, 10, 0])}, r"label 10 of sample 3 lies outside \[0, 10\); classes are numbered"),
    ({"labels": torch.tensor([1, -1, 7, 0])}, r"label -1 of sample 0 lies outside \[0, 10\)"),
    (
        {"labels": torch.tensor([1, 4, 7, -100])},
        r"label -100 of sample 2 .*leave a sample without a class out",
    ),
    *(({"labels": labels}, "the soft label of sample 5 is not a distribution") for labels in SOFT.values()),
    ({"indices": torch.tensor([5, 0, 6, 2])}, r"sample index 6 lies outside \[0, 6\); DatasetInfo.num_samples"),
    ({"indices": torch.tensor([5, 0, -1, 2])}, r"sample index -1 lies outside \[0, 6\)"),
]


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("first", [True, False], ids=["first", "second"])
@pytest.mark.parametrize(("change", "message"), BAD_FORMS + BAD_VALUES)
def test_bad_batches_are_refused(backbone, batch, data, change, message, first, compiled):
    method = begun("dtskd", backbone, data)
    if compiled:
        method.compile(backend="eager", fullgraph=True)
    if not first:
        method.after_step(batch, method(batch, START))
    remembered = copy.deepcopy(method.memories["history"]._next)
    with pytest.raises(BatchError, match=message):
        method(dataclasses.replace(batch, **change), START)
    if remembered is not None:
        assert torch.equal(method.memories["history"]._next.written, remembered.written)


@pytest.mark.parametrize("name", METHODS)
def test_an_empty_batch_is_refused_by_every_method(name, backbone, batch, data):
    method = begun(name, backbone, data)
    method(batch, START)
    empty = selfkd.Batch(batch.images[:0], batch.labels[:0], batch.indices[:0])
    with pytest.raises(BatchError, match="the batch is empty"):
        method(empty, START)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("wrong", [10, -100, -1])
def test_labels_that_a_device_holds_are_refused_at_the_next_look(name, wrong, backbone, batch, data, on_a_device):
    method = begun(name, backbone, data)
    for labels in ([1, 4, 7, 0], [1, 4, 7, 0], [1, wrong, 7, 0], [1, 4, 7, 0]):
        different = dataclasses.replace(batch, labels=torch.tensor(labels))
        output = method(different, START)
        assert torch.isfinite(output.loss), "the device goes on until then"
        method.after_step(different, output)
    with pytest.raises(BatchError, match=rf"label {wrong} in batch 3 of the epoch lies outside \[0, 10\)"):
        method.guard()
    method.guard()  # said once


def test_the_first_batch_is_looked_at_wherever_it_is(backbone, batch, data, on_a_device):
    method = begun("ps_kd", backbone, data)
    with pytest.raises(BatchError, match="label 10 of sample 3"):
        method(dataclasses.replace(batch, labels=torch.tensor([1, 4, 10, 0])), START)


SAID = ("sums to 3;", "a probability of -0.5;", "nan;")


@pytest.mark.parametrize(("labels", "said"), list(zip(SOFT.values(), SAID, strict=True)))
def test_soft_labels_that_a_device_holds_are_refused_when_the_epoch_ends(
    labels, said, backbone, batch, data, on_a_device
):
    method = begun("ps_kd", backbone, data)
    for soft in (HALVES, HALVES, labels, HALVES):
        different = dataclasses.replace(batch, labels=soft)
        method.after_step(different, method(different, START))
    with pytest.raises(BatchError, match=f"a soft label in batch 3 of the epoch .*{said} the probabilities"):
        method.end_epoch(START)
    assert method.memories["history"].is_empty


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("wrong", [6, -1])
def test_indices_that_a_device_holds_are_refused_before_anything_can_be_read(
    wrong, compiled, backbone, batch, data, on_a_device
):
    method = begun("dtskd", backbone, data)
    method.after_step(batch, method(batch, START))
    method.end_epoch(START)
    before = method.memories["history"].read(torch.arange(6), torch.zeros(6, dtype=torch.int64))
    second = selfkd.Progress(1, 2)
    method.begin_epoch(second)
    if compiled:
        method.compile(backend="eager", fullgraph=True)
    for indices in (batch.indices, torch.tensor([5, 0, wrong, 2])):
        different = dataclasses.replace(batch, indices=indices)
        method.after_step(different, method(different, second))
    with pytest.raises(BatchError, match=rf"in batch 2 of the epoch, sample index {wrong} lies outside \[0, 6\)"):
        method.end_epoch(second)
    after = method.memories["history"].read(torch.arange(6), torch.zeros(6, dtype=torch.int64))
    assert all(torch.equal(before[head], after[head]) for head in before)


def test_indices_that_the_host_knows_are_refused_at_once(backbone, batch, data):
    """Those on the device are another tensor, which nobody looks at."""
    method = begun("ps_kd", backbone, data)
    method.after_step(batch, method(batch, START))
    with pytest.raises(BatchError, match="sample index 6"):
        method(dataclasses.replace(batch, host_indices=torch.tensor([5, 0, 6, 2])), START)


def with_a_wrong_label_last(method, batch, progress, labels=(1, 4, 10, 0)):
    for wrong in (batch.labels, torch.as_tensor(labels)):
        different = dataclasses.replace(batch, labels=wrong)
        method.after_step(different, method(different, progress))


WRONG_LABEL = r"label 10 in batch 2 of the epoch lies outside \[0, 10\)"


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("following", [0, 1], ids=["the same epoch", "the next"])
def test_what_no_end_of_an_epoch_looked_at_is_looked_at_when_one_begins(
    name, following, backbone, batch, data, on_a_device
):
    method = begun(name, backbone, data)
    with_a_wrong_label_last(method, batch, START)
    with pytest.raises(BatchError, match=WRONG_LABEL):
        method.begin_epoch(selfkd.Progress(following, 2))
    for _ in range(2):
        method.begin_epoch(START)  # said once
    method.after_step(batch, method(batch, START))
    method.end_epoch(START)


@pytest.mark.parametrize("name", seats.FORGETTING)
def test_a_loop_without_hooks_hears_of_a_wrong_label_when_its_epoch_changes(name, backbone, batch, data, on_a_device):
    method = seats.create_method(name, backbone, data)
    method(batch, START)
    for _ in range(2):
        with_a_wrong_label_last(method, batch, selfkd.Progress(1, 4))
        with pytest.raises(BatchError, match=WRONG_LABEL):
            method(batch, selfkd.Progress(2, 4))
        method(batch, selfkd.Progress(2, 4))  # said once


def test_an_epoch_begins_again_after_an_error_whatever_else_was_noted(backbone, batch, data, on_a_device):
    """NaN is no share and makes no sum; and in the same batch an index is wrong."""
    method = begun("ps_kd", backbone, data)
    wrong = dataclasses.replace(batch, labels=SOFT["is no number"], indices=torch.tensor([5, 0, 6, 2]))
    for each in (batch, wrong):
        method.after_step(each, method(each, START))
    with pytest.raises(BatchError, match="has a probability of nan"):
        method.guard()
    method.begin_epoch(START)
    method.after_step(batch, method(batch, START))
    method.end_epoch(START)


def test_an_epoch_begins_again_after_the_error_of_a_loop_that_never_looked(
    backbone, batch, data, on_a_device, monkeypatch
):
    monkeypatch.setattr("selfkd.value_ranges._MOST_RECORDED", 3)
    method = begun("plain", backbone, data)
    halves, wrong = (dataclasses.replace(batch, labels=labels) for labels in (HALVES, SOFT["is no number"]))
    method(halves, START)
    method(wrong, START)
    with pytest.raises(BatchError, match="has a probability of nan"):
        method(halves, START)
    method.begin_epoch(START)


class Indexed(Plain):
    """Needs the indices, for a table of its own, and has no history."""

    needs: ClassVar[Needs] = Needs(sample_index=True)

    def __init__(self, backbone, data):
        super().__init__(backbone, data)
        self.seen = torch.zeros(data.num_samples)

    def forward(self, batch, progress):
        self.seen[batch.indices] += 1
        return super().forward(batch, progress)


@pytest.mark.parametrize("wrong", [6, -1])
def test_indices_are_checked_without_a_history_too(wrong, backbone, batch, data, request):
    method = Indexed(backbone, data)
    different = dataclasses.replace(batch, indices=torch.tensor([5, 0, wrong, 2]))
    for each in (different, dataclasses.replace(batch, host_indices=different.indices)):
        with pytest.raises(BatchError, match=rf"^sample index {wrong} lies outside \[0, 6\); DatasetInfo.num_samples"):
            method(each, START)
    assert not method.seen.any()
    request.getfixturevalue("on_a_device")
    for each in (batch, different):
        method(each, START)  # the device goes on until then
    with pytest.raises(BatchError, match=rf"in batch 2 of the epoch, sample index {wrong} lies outside \[0, 6\)"):
        method.guard()
    method.begin_epoch(START)
    method(batch, START)
    method.end_epoch(START)


@pytest.mark.parametrize("kind", [PSKD, Indexed])
def test_every_batch_of_indices_is_checked_once(kind, backbone, batch, data, on_a_device, monkeypatch):
    checked, check = [], IndexRange.check
    monkeypatch.setattr(
        IndexRange, "check", lambda self, indices, now: (checked.append(now), check(self, indices, now))
    )
    method = kind(backbone, data)
    method.begin_epoch(START)
    for _ in range(3):
        method.after_step(batch, method(batch, START))
    assert checked == [False] * 3


def tuples(labels, views=1):
    images = torch.randn(views * len(labels), 3, 32, 32)
    return selfkd.Batch(images, torch.tensor(labels), torch.arange(len(labels)) + 20, views, followers=1)


class Pairs(Plain):
    """A method that needs two views of pairs."""

    needs: ClassVar[Needs] = Needs(views=2, same_class=1)

    def forward(self, batch, progress):
        logits = self.backbone(batch.images).logits[: len(batch.labels)]
        loss = torch.nn.functional.cross_entropy(logits, batch.labels)
        return selfkd.StepOutput(loss, {"loss": loss}, {"main": logits})


def test_views_and_followers_have_the_layout_that_the_contract_states(backbone):
    def step(batch):
        return Pairs(backbone, selfkd.DatasetInfo(30, 10))(batch, selfkd.Progress(0, 1))

    assert torch.isfinite(step(tuples([3, 5, 7, 3, 5, 7], views=2)).loss)
    with pytest.raises(BatchError, match="needs same_class=1: .* 1 followers for each anchor .* 3 labels cannot be"):
        step(tuples([3, 5, 7], views=2))
    with pytest.raises(BatchError, match="label 6 of sample 24 differs from that of its anchor, at position 1"):
        step(tuples([3, 5, 7, 3, 6, 7], views=2))
    with pytest.raises(BatchError, match="6 images for 6 labels and 2 views"):
        step(dataclasses.replace(tuples([3, 5, 7, 3, 5, 7]), views=2))
    with pytest.raises(BatchError, match="needs same_class=1, the batch has followers=0"):
        step(dataclasses.replace(tuples([3, 5, 7, 3, 5, 7], views=2), followers=0))


def _one_image(name, network, size):
    method = seats.create_method(
        name, selfkd.create_backbone(network, 5, width=8, input_size=size), selfkd.DatasetInfo(4, 5)
    )
    batch = seats.batch_for(method)
    indices = None if batch.indices is None else batch.indices[:1]
    return method, selfkd.Batch(batch.images[:1], batch.labels[:1], indices)


@pytest.mark.parametrize("name", METHODS)
def test_one_image_is_refused_where_a_layer_has_one_value_of_each_channel(name):
    """The last map has one pixel, which the network itself normalises."""
    method, one = _one_image(name, "resnet18_cifar", 8)
    method.begin_epoch(START)
    state = {key: value.clone() for key, value in method.state_dict().items()}
    with pytest.raises(BatchError, match=rf"{type(method).__name__} .* its layer \S+ .* at least 2 samples"):
        method(one, START)
    assert all(torch.equal(value, state[key]) for key, value in method.state_dict().items())
    assert all(part.training for part in method.modules())
    assert torch.isfinite(method.eval()(one, START).loss)


def test_one_image_trains_where_no_layer_in_training_normalises_a_single_value():
    """A VGG normalises before the max-pool that makes its last map one pixel."""
    method, one = _one_image("plain", "vgg11_cifar", 32)
    assert method.backbone.final_shape[1:] == (1, 1)
    assert torch.isfinite(method(one, START).loss)
    method, one = _one_image("plain", "resnet18_cifar", 8)
    for part in method.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.eval()  # frozen
    assert torch.isfinite(method(one, START).loss)
