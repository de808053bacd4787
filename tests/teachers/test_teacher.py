"""A teacher is frozen, hidden, and sees images as it was trained to."""

import copy
import io

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

import seats
import selfkd
from selfkd.errors import BackboneError, CheckpointError, OptionError, UserError

START = selfkd.Progress(0, 2)
OWN, GIVEN = selfkd.Normalization((0.5, 0.4, 0.3), (0.2, 0.25, 0.5)), selfkd.Normalization((0.1,) * 3, (0.3,) * 3)


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    return selfkd.create_backbone("resnet18_cifar", 10, width=4, input_size=16)


@pytest.fixture
def network(backbone):
    return seats.another(backbone)


@pytest.fixture
def images():
    return torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def normalized(pixels, normalization):
    mean, std = (torch.tensor(values)[:, None, None] for values in (normalization.mean, normalization.std))
    return (pixels - mean) / std


def test_it_is_frozen_in_eval_mode_and_without_gradient(network, images):
    network.train()
    weights = copy.deepcopy(network.state_dict())
    teacher = selfkd.Teacher(network)
    features = teacher(images.requires_grad_())
    assert not any(
        tensor.requires_grad for tensor in (*features.stages, features.final, features.pooled, features.logits)
    )
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(value, weights[key]) for key, value in network.state_dict().items()), "no batch is noted"
    with torch.no_grad():
        assert torch.equal(features.logits, network(images).logits)


def test_it_is_put_back_into_eval_mode(backbone, network, images):
    method = selfkd.create_method("kd", backbone, selfkd.DatasetInfo(4, 10), teacher=selfkd.Teacher(network))
    before = copy.deepcopy(network.state_dict())
    for module in (network, network.network):
        module.train()
        method(selfkd.Batch(images, torch.arange(4)), START)
        assert not any(each.training for each in network.modules())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_a_method_that_has_trained_can_be_saved_whole(backbone, network, images):
    method = selfkd.create_method("kd", backbone, selfkd.DatasetInfo(4, 10), teacher=selfkd.Teacher(network))
    batch = selfkd.Batch(images, torch.arange(4))
    loss = method(batch, START).loss
    file = io.BytesIO()
    torch.save(method, file)
    file.seek(0)
    torch.testing.assert_close(torch.load(file, weights_only=False)(batch, START).loss, loss)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_network_with_weights_that_are_no_numbers_does_not_teach(network, value):
    network.network.fc.weight.data[0, 0] = value
    with pytest.raises(CheckpointError, match="the teacher's weight fc.weight is NaN or infinite"):
        selfkd.Teacher(network)


def test_a_method_hides_it(backbone, network, images):
    method = selfkd.create_method("kd", backbone, selfkd.DatasetInfo(4, 10), teacher=selfkd.Teacher(network))
    plain = selfkd.create_method("plain", backbone, selfkd.DatasetInfo(4, 10))
    method.train()
    assert not any(module.training for module in network.modules())
    assert [name for name, _ in method.named_modules()] == [name for name, _ in plain.named_modules()]
    assert list(method.state_dict()) == list(plain.state_dict())
    assert len(list(method.parameters())) == len(list(plain.parameters()))
    assert len(list(method.buffers())) == len(list(plain.buffers()))
    before = copy.deepcopy(network.state_dict())
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    method(selfkd.Batch(images, torch.arange(4)), START).loss.backward()
    optimizer.step()
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_it_sees_images_as_it_was_trained_to(network, images):
    expected = selfkd.Teacher(network)(normalized(images, OWN)).logits
    teacher = selfkd.Teacher(network, OWN, GIVEN)
    torch.testing.assert_close(teacher(normalized(images, GIVEN)).logits, expected)


def test_equal_normalizations_change_no_bit(network, images):
    same = selfkd.Teacher(network, OWN, selfkd.Normalization(OWN.mean, OWN.std))
    assert torch.equal(same(images).logits, selfkd.Teacher(network)(images).logits)


def test_it_follows_device_type_and_memory_layout_of_the_images(backbone, network, images):
    teacher = selfkd.Teacher(network, OWN, GIVEN)
    method = selfkd.create_method("kd", backbone, selfkd.DatasetInfo(4, 10), teacher=teacher)
    convolution = next(module for module in network.modules() if isinstance(module, torch.nn.Conv2d))
    labels = torch.arange(4)
    for layout in (torch.channels_last, torch.contiguous_format):
        method(selfkd.Batch(images.to(memory_format=layout), labels), START)
        assert convolution.weight.is_contiguous(memory_format=layout)
    method.double()(selfkd.Batch(images.double(), labels), START)
    assert convolution.weight.dtype == torch.float64
    teacher.match(torch.zeros(1, 3, 16, 16, device="meta"))
    assert {parameter.device.type for parameter in network.parameters()} == {"meta"}


def test_a_refused_batch_moves_nothing(backbone, network, images):
    method = selfkd.create_method("kd", backbone, selfkd.DatasetInfo(4, 10), teacher=selfkd.Teacher(network))
    with pytest.raises(UserError, match="images are on meta, the labels on cpu"):
        method(selfkd.Batch(images.to("meta"), torch.arange(4)), START)
    assert {parameter.device.type for parameter in network.parameters()} == {"cpu"}


def test_a_method_with_a_teacher_that_normalises_is_one_graph(backbone, network, images):
    torch._dynamo.reset()
    teacher = selfkd.Teacher(network, OWN, GIVEN)
    method = selfkd.create_method("kd", backbone, selfkd.DatasetInfo(4, 10), teacher=teacher)
    batch = selfkd.Batch(images, torch.arange(4))
    eager = copy.deepcopy(method)(batch, START).loss
    counter = CompileCounterWithBackend("aot_eager")
    method.compile(backend=counter, fullgraph=True)
    for _ in range(2):
        loss = method(batch, START).loss
        torch.testing.assert_close(loss, eager)
        loss.backward()
        method.zero_grad()
    assert counter.frame_count == 1
    assert all(parameter.grad is None for parameter in network.parameters())
    torch._dynamo.reset()


def test_its_record_says_which_it_is_and_what_is_fitted_to_it(network):
    record = selfkd.Teacher(network).record
    assert record.num_classes == 10
    assert record.input_size == (3, 16, 16)
    assert record.stage_shapes == network.stage_shapes
    assert (record.final_shape, record.num_features) == (network.final_shape, network.num_features)
    assert selfkd.Teacher(copy.deepcopy(network)).record == record
    buffer = io.BytesIO()
    torch.save(network.state_dict(), buffer)
    buffer.seek(0)
    reloaded = seats.another(network)
    reloaded.load_state_dict(torch.load(buffer, weights_only=True))
    assert selfkd.Teacher(reloaded.to(memory_format=torch.channels_last)).record == record
    with torch.no_grad():
        next(reloaded.parameters()).add_(1e-6)
    assert selfkd.Teacher(reloaded).record.checksum != record.checksum


def test_what_cannot_teach_is_refused(backbone, network):
    data = selfkd.DatasetInfo(4, 10)
    with pytest.raises(BackboneError, match=r"selfkd.stage\(network\), not ResNetCifar"):
        selfkd.Teacher(network.network)
    with pytest.raises(OptionError, match="normalization=.* student_normalization together, or neither"):
        selfkd.Teacher(network, OWN)
    one = selfkd.Normalization((0.5,), (0.5,))
    with pytest.raises(OptionError, match="for 3 channels"):
        selfkd.Teacher(network, one, one)
    with pytest.raises(ValueError, match="a mean and a std > 0 for each channel"):
        selfkd.Normalization((0.5,), (0.0,))
    for options, message in (
        ({"num_classes": 7, "input_size": 16}, "the teacher has 7 classes, the network 10"),
        ({"num_classes": 10, "input_size": 32}, "the teacher takes images of 3x32x32 .*, the network 3x16x16"),
    ):
        teacher = selfkd.Teacher(selfkd.create_backbone("resnet18_cifar", width=4, **options))
        with pytest.raises(BackboneError, match=message):
            selfkd.create_method("kd", backbone, data, teacher=teacher)
    itself = selfkd.Teacher(selfkd.stage(backbone.network, input_size=16))
    with pytest.raises(BackboneError, match="the teacher shares parameters with the network"):
        selfkd.create_method("kd", backbone, data, teacher=itself)
