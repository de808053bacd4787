"""KD: golden values by its formula in NumPy, on the specification's logits."""

import numpy as np
import pytest
import torch

import golden_steps
import seats
import selfkd
from selfkd.errors import CheckpointError, OptionError, UserError


def softmax(logits):
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)


def divergence(student, teacher, temperature):
    taught, learnt = softmax(teacher / temperature), softmax(student / temperature)
    return temperature**2 * (taught * np.log(taught / learnt)).sum(1).mean()


@pytest.mark.parametrize(
    ("options", "total", "norm"),
    [
        ({}, 1.281419107202435, 0.22051022481899665),
        (
            {"label_weight": 0.5, "distillation_weight": 0.5, "temperature": 1.0},
            1.3230354000898652,
            0.24715753961492826,
        ),
    ],
    ids=["CIFAR-100", "ImageNet"],
)
def test_golden_step(backbone, options, total, norm):
    step = golden_steps.kd(backbone, **options)
    output = step()
    output.loss.backward()
    assert output.loss.item() == pytest.approx(total, rel=1e-9)
    assert step.logits["main"].grad.norm().item() == pytest.approx(norm, rel=1e-9)


def test_the_student_learns_from_labels_and_teacher(backbone, batch, data):
    teacher = selfkd.Teacher(seats.another(backbone))
    method = selfkd.create_method("kd", backbone, data, teacher=teacher)
    output = method(batch, selfkd.Progress(0, 1))
    student, taught = (each.detach().double().numpy() for each in (output.logits["main"], teacher(batch.images).logits))
    labels = -np.log(softmax(student)[np.arange(4), batch.labels.numpy()]).mean()
    expected = 0.1 * labels + 0.9 * divergence(student, taught, 4.0)
    assert output.loss.item() == pytest.approx(expected, rel=1e-5)
    assert output.terms["labels"].item() == pytest.approx(labels, rel=1e-5)
    output.loss.backward()
    assert all(parameter.grad is not None for parameter in method.parameters())


@pytest.mark.parametrize(
    ("option", "value"),
    [("temperature", 0), ("label_weight", -1), ("distillation_weight", float("nan"))],
)
def test_options_are_checked(backbone, data, option, value):
    with pytest.raises(OptionError, match=f"{option}={value}"):
        seats.create_method("kd", backbone, data, **{option: value})


def test_something_must_be_learnt(backbone, data):
    with pytest.raises(OptionError, match="nothing would be learnt"):
        seats.create_method("kd", backbone, data, label_weight=0, distillation_weight=0)


def test_it_is_nothing_without_a_teacher(backbone, data):
    with pytest.raises(OptionError, match=r"teacher is missing; it must be a selfkd.Teacher"):
        selfkd.create_method("kd", backbone, data)
    with pytest.raises(OptionError, match="teacher must be a selfkd.Teacher"):
        selfkd.create_method("kd", backbone, data, teacher=seats.another(backbone))
    with pytest.raises(UserError, match="method 'plain' takes no teacher"):
        selfkd.create_method("plain", backbone, data, teacher=selfkd.Teacher(seats.another(backbone)))


def test_a_loop_does_not_continue_with_another_teacher(backbone, data):
    method = seats.create_method("kd", backbone, data)
    state = method.training_state()
    method.load_training_state(state)
    with torch.no_grad():
        other = seats.another(backbone)
        next(other.parameters()).add_(0.1)
    another = selfkd.create_method("kd", backbone, data, teacher=selfkd.Teacher(other))
    with pytest.raises(CheckpointError, match="belongs to a KD with another teacher"):
        another.load_training_state(state)


def test_built_from_a_record_it_predicts_but_does_not_train(backbone, batch, data):
    method = seats.create_method("kd", backbone, data)
    rebuilt = selfkd.create_method("kd", backbone, data, teacher=selfkd.Teacher.from_record(method.teacher.record))
    rebuilt.load_state_dict(method.state_dict(), strict=True)
    assert torch.equal(rebuilt.eval().predict(batch.images)["main"], method.eval().predict(batch.images)["main"])
    with pytest.raises(selfkd.SelfKDError, match="only its record: the method can evaluate and predict"):
        rebuilt(batch, selfkd.Progress(0, 1))
