"""What holds for every method."""

import dataclasses
import inspect

import pytest
import torch

import own_loop
import seats
import selfkd
from selfkd.methods import METHODS
from selfkd.methods.base import Method

SIZE, CLASSES, SAMPLES = 16, 5, 8


def built(name, **options):
    torch.manual_seed(0)
    backbone = selfkd.create_backbone("resnet18_cifar", CLASSES, width=8, input_size=SIZE)
    return seats.create_method(name, backbone, selfkd.DatasetInfo(SAMPLES, CLASSES), **options)


def train(method, epochs=2):
    optimizer = torch.optim.SGD(method.parameters(), 0.05)
    return own_loop.train(method, optimizer, lambda epoch: (seats.batch_for(method, start) for start in (0, 4)), epochs)


@pytest.mark.parametrize("name", METHODS)
def test_it_trains_and_speaks_the_contract(name):
    method = built(name)
    assert isinstance(method, Method)
    keys = list(method.deployed().state_dict())
    assert all(torch.isfinite(torch.tensor(train(method))))
    assert list(method.deployed().state_dict()) == keys
    method.begin_epoch(selfkd.Progress(2, 3))
    output = method(seats.batch_for(method), selfkd.Progress(2, 3))
    assert output.loss.ndim == 0
    assert output.terms
    assert all(term.ndim == 0 for term in output.terms.values())
    images = seats.batch_for(method).images
    predicted = method.eval().predict(images)
    assert list(predicted) == list(output.logits)
    assert next(iter(predicted)) == "main"
    assert all(logits.shape == (len(images), CLASSES) for logits in predicted.values())
    assert torch.equal(predicted["main"], method.deployed()(images))
    assert method.exits()["main"] is method.deployed()


@pytest.mark.parametrize("name", METHODS)
def test_it_is_deterministic(name):
    assert train(built(name)) == train(built(name))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_labels_may_be_soft(name, dtype):
    def losses(soften):
        method = built(name)
        batch = seats.batch_for(method)
        batch = dataclasses.replace(batch, labels=soften(torch.nn.functional.one_hot(batch.labels, CLASSES).to(dtype)))
        found = []
        for epoch in range(2):  # what was remembered in the first is read in the second
            progress = selfkd.Progress(epoch, 2)
            method.begin_epoch(progress)
            output = method(batch, progress)
            output.loss.backward()
            method.after_step(batch, output)
            method.end_epoch(progress)
            found.append(output.loss)
        return torch.stack(found)

    method = built(name)
    method.begin_epoch(selfkd.Progress(0, 2))
    hard = method(seats.batch_for(method), selfkd.Progress(0, 2)).loss
    certain = losses(lambda one_hot: one_hot)
    torch.testing.assert_close(certain[0], hard)
    mixed = losses(lambda one_hot: 0.75 * one_hot + 0.25 * one_hot.roll(1, 1))
    assert mixed.dtype == torch.float32
    assert mixed.isfinite().all()
    assert (mixed != certain).all(), "the shares count"


@pytest.mark.parametrize("name", METHODS)
def test_every_parameter_is_given_to_the_optimiser_once(name):
    method = built(name)
    grouped = [parameter for group in method.parameter_groups() for parameter in group["params"]]
    assert len(grouped) == len(set(map(id, grouped)))
    assert set(map(id, grouped)) == {id(parameter) for parameter in method.parameters() if parameter.requires_grad}


@pytest.mark.parametrize("name", METHODS)
def test_the_step_itself_remembers_nothing(name):
    method = built(name)
    progress = selfkd.Progress(0, 2)
    method.begin_epoch(progress)
    method(seats.batch_for(method), progress)
    for memory in method.memories.values():
        memory.commit()
        assert memory.is_empty


@pytest.mark.parametrize("name", METHODS)
def test_its_options_are_keywords_with_defaults_and_meanings(name):
    method = METHODS.load(name)
    parameters = list(inspect.signature(method).parameters.values())[2:]
    documentation = inspect.getdoc(method) or ""
    for parameter in parameters:
        assert parameter.kind is parameter.KEYWORD_ONLY
        # A second network has no default: the method cannot be without it.
        assert (parameter.default is parameter.empty) == (parameter.name in ("teacher", "peer"))
        assert f"{parameter.name}: " in documentation


@pytest.mark.parametrize("name", METHODS)
def test_mixed_precision_gives_a_float32_loss(name):
    method = built(name)
    method.begin_epoch(selfkd.Progress(0, 2))
    with torch.autocast("cpu", torch.bfloat16):
        output = method(seats.batch_for(method), selfkd.Progress(0, 2))
    assert output.loss.dtype == torch.float32
    output.loss.backward()
    assert all(parameter.grad is None or torch.isfinite(parameter.grad).all() for parameter in method.parameters())
