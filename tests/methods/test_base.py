import dataclasses

import pytest
import torch

import selfkd
from selfkd.errors import BackboneError, BatchError, OptionError, UnknownNameError, UserError


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
    ],
)
def test_bad_batches_are_refused_at_the_first_step(backbone, batch, data, change, message):
    method = selfkd.create_method("dtskd", backbone, data)
    with pytest.raises(BatchError, match=message):
        method(dataclasses.replace(batch, **change), selfkd.Progress(0, 1))


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
