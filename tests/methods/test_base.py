import dataclasses
from typing import ClassVar

import pytest
import torch

import selfkd
from selfkd.contract import Needs
from selfkd.errors import BackboneError, BatchError, OptionError, UnknownNameError, UserError
from selfkd.methods.plain import Plain


def test_unknown_methods_bring_the_nearest(backbone, data):
    with pytest.raises(UnknownNameError, match="unknown method 'dtsk'; nearest: dtskd"):
        selfkd.create_method("dtsk", backbone, data)


def test_unknown_options_are_named(backbone, data):
    with pytest.raises(OptionError, match="beta_mx"):
        selfkd.create_method("dtskd", backbone, data, beta_mx=1)


def test_somebodys_own_class_is_taken(backbone, batch, data):
    method = selfkd.create_method("selfkd.methods.plain:Plain", backbone, data)
    assert torch.isfinite(method(batch, selfkd.Progress(0, 1)).loss)
    with pytest.raises(UserError, match="'nowhere:Plain' cannot be imported"):
        selfkd.create_method("nowhere:Plain", backbone, data)


def test_classes_must_agree(backbone):
    with pytest.raises(BackboneError, match="10 outputs, the data 7 classes"):
        selfkd.create_method("plain", backbone, selfkd.DatasetInfo(6, 7))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"indices": None}, "DTSKD needs sample_index: Batch.indices is None"),
        ({"labels": torch.tensor([1, 4, 10, 0])}, r"label 10 of sample 3 lies outside \[0, 10\)"),
        ({"labels": torch.tensor([1, -1, 7, 0])}, r"label -1 of sample 0 lies outside \[0, 10\)"),
        ({"views": 2}, "needs views=1, the batch has views=2"),
        ({"labels": torch.tensor([1, 2])}, "4 images for 2 labels"),
        ({"indices": torch.tensor([1, 2])}, "2 indices for 4 labels"),
        ({"labels": torch.full((4, 7), 1 / 7)}, "soft labels of 7 classes, the data has 10"),
        ({"labels": torch.full((4, 10), 0.2)}, "the soft label of sample 5 is no distribution"),
    ],
)
def test_bad_batches_are_refused_at_the_first_step(backbone, batch, data, change, message):
    method = selfkd.create_method("dtskd", backbone, data)
    with pytest.raises(BatchError, match=message):
        method(dataclasses.replace(batch, **change), selfkd.Progress(0, 1))


def tuples(labels, views=1):
    images = torch.randn(views * len(labels), 3, 32, 32)
    return selfkd.Batch(images, torch.tensor(labels), torch.arange(len(labels)) + 20, views)


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
    with pytest.raises(BatchError, match="needs same_class=1: 3 labels do not divide into anchors .* 1 followers"):
        step(tuples([3, 5, 7], views=2))
    with pytest.raises(BatchError, match="label 6 of sample 24 differs from that of its anchor, at position 1"):
        step(tuples([3, 5, 7, 3, 6, 7], views=2))
    with pytest.raises(BatchError, match="6 images for 6 labels and 2 views"):
        step(dataclasses.replace(tuples([3, 5, 7, 3, 5, 7]), views=2))


def test_indices_beyond_the_data_set_are_refused(backbone, batch):
    method = selfkd.create_method("ps_kd", backbone, selfkd.DatasetInfo(4, 10))
    output = method(batch, selfkd.Progress(0, 1))
    with pytest.raises(ValueError, match=r"sample index 5 lies outside \[0, 4\)"):
        method.after_step(batch, output)


def test_an_epoch_that_was_never_ended_is_noticed(backbone, batch, data):
    method = selfkd.create_method("ps_kd", backbone, data)
    method.begin_epoch(selfkd.Progress(0, 3))
    method.after_step(batch, method(batch, selfkd.Progress(0, 3)))
    method.begin_epoch(selfkd.Progress(0, 3))  # broken off and begun again
    method.after_step(batch, method(batch, selfkd.Progress(0, 3)))
    with pytest.raises(UserError, match="epoch 0 was not ended; call end_epoch"):
        method.begin_epoch(selfkd.Progress(1, 3))


def test_a_network_that_is_not_staged_is_refused(backbone, data):
    with pytest.raises(BackboneError, match=r"selfkd.stage\(network\), not ResNetCifar"):
        selfkd.create_method("plain", backbone.network, data)
