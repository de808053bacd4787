"""The fast order of operations against the literal one, and the structure against the specification."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate, relu

from literal_teskd import literal
from selfkd.branches.top_down_students import TopDownStudents
from selfkd.errors import OptionError

PYRAMIDS = {
    "residual": ((4, 16, 16), (6, 8, 8), (8, 4, 4), (10, 2, 2)),
    "last stage of one pixel": ((4, 8, 8), (6, 4, 4), (8, 2, 2), (8, 1, 1)),
    "odd and not square": ((4, 17, 23), (6, 9, 12), (8, 5, 6), (10, 3, 3)),
}


def everything(students, maps):
    """Outputs, gradients and statistics of one training pass, by name."""
    maps = [each.detach().requires_grad_() for each in maps]
    features, logits = students(maps)
    outputs = {f"feature of {name}": each for name, each in features.items()}
    outputs |= {f"logits of {name}": each for name, each in logits.items()}
    weighted = [torch.linspace(-1, 1, each.numel()).view_as(each) * each for each in outputs.values()]
    sum(each.sum() for each in weighted).backward()
    gradients = {f"gradient of map {i}": each.grad for i, each in enumerate(maps) if each.grad is not None}
    gradients |= {
        f"gradient of {name}": each.grad for name, each in students.named_parameters() if each.grad is not None
    }
    outputs = {name: each.detach() for name, each in outputs.items()}
    return {**outputs, **gradients, **dict(students.named_buffers())}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("convolutions", [1, 2])
@pytest.mark.parametrize(
    ("fusion", "top_lateral"),
    [("mixed", True), ("concat", True), ("add", True), ("none", True), ("mixed", False), ("none", False)],
)
@pytest.mark.parametrize("pyramid", PYRAMIDS)
def test_outputs_gradients_and_statistics_equal_the_literal_order(pyramid, fusion, top_lateral, convolutions, layout):
    torch.manual_seed(0)
    shapes = PYRAMIDS[pyramid]
    fast = TopDownStudents(shapes, 12, 10, 5, fusion=fusion, convolutions=convolutions, top_lateral=top_lateral)
    fast.double()
    slow = literal(copy.deepcopy(fast))
    assert not any(type(ours) is type(theirs) for ours, theirs in _changed(fast, slow))
    maps = [torch.randn(3, *shape, dtype=torch.float64).relu().to(memory_format=layout) for shape in shapes]
    ours, theirs = everything(fast.to(memory_format=layout), maps), everything(slow, maps)
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        assert torch.allclose(ours[name], expected, rtol=0, atol=1e-12 * max(1.0, expected.abs().max().item())), name


def _changed(fast, slow):
    """The parts that the literal form does in another order, in both forms."""
    for name, level in fast.levels.items():
        yield level.upsampling, slow.levels[name].upsampling
        if hasattr(level.fusion, "reduce"):
            yield level.fusion, slow.levels[name].fusion
    for name, student in fast.students.items():
        yield student.convolutions[0][0], slow.students[name].convolutions[0][0]


def windows_of(students):
    return {name: student.convolutions[0][0].kernel_size[0] for name, student in students.students.items()}


@pytest.mark.parametrize(
    ("sides", "windows"),
    [((32, 16, 8, 4), (8, 4, 2)), ((8, 4, 2, 1), (4, 2, 1)), ((56, 28, 14, 7), (8, 4, 2)), ((8, 4, 2, 2), (4, 2, 1))],
)
def test_windows_bring_every_student_to_the_size_of_the_last_stage(sides, windows):
    students = TopDownStudents([(4, side, side) for side in sides], 4, 4, 3)
    assert windows_of(students) == dict(zip(("branch1", "branch2", "branch3"), windows, strict=True))


@pytest.mark.parametrize("chosen", [(3,), (2, 3), (1, 2, 3), (1,)])
def test_only_the_levels_that_a_student_needs_are_built(chosen):
    shapes = PYRAMIDS["residual"]
    students = TopDownStudents(shapes, 4, 4, 3, students=chosen)
    assert sorted(students.students) == [f"branch{i}" for i in chosen]
    assert len(students.levels) == 4 - min(chosen)
    features, logits = students([torch.randn(2, *shape) for shape in shapes])
    assert list(features) == list(logits) == [f"branch{i}" for i in chosen]
    assert all(each.shape == (2, 4) for each in features.values())


@pytest.mark.parametrize("convolutions", [1, 2])
def test_features_have_the_teachers_length_whatever_the_width(convolutions):
    shapes = PYRAMIDS["residual"]
    students = TopDownStudents(shapes, 6, 10, 3, convolutions=convolutions)
    features, _ = students([torch.randn(2, *shape) for shape in shapes])
    assert all(each.shape == (2, 10) for each in features.values())
    assert all(len(student.convolutions) == convolutions for student in students.students.values())


@pytest.mark.parametrize("top_lateral", [True, False])
def test_without_fusion_the_shallow_stages_are_not_looked_at(top_lateral):
    shapes = PYRAMIDS["residual"]
    students = TopDownStudents(shapes, 4, 4, 3, fusion="none", top_lateral=top_lateral)
    maps = [torch.randn(2, *shape, requires_grad=True) for shape in shapes]
    sum(each.sum() for each in students(maps)[1].values()).backward()
    assert [each.grad is not None for each in maps] == [False, False, False, True]
    assert sum(isinstance(module, nn.Conv2d) for module in students.modules()) == top_lateral + 3 + 3 * 2


def test_without_its_lateral_the_last_stage_itself_is_upsampled():
    torch.manual_seed(0)
    shapes = PYRAMIDS["residual"]
    students = TopDownStudents(shapes, 4, 6, 3, students=(3,), fusion="none", top_lateral=False).eval()
    maps = [torch.randn(2, *shape) for shape in shapes]
    upsampling = students.levels["branch3"].upsampling
    upsampled = interpolate(maps[-1], scale_factor=2, mode="bilinear", align_corners=True)
    expected = students.students["branch3"](relu(upsampling.norm(upsampling.conv(upsampled))))[1]
    assert torch.allclose(students(maps)[1]["branch3"], expected, atol=1e-6)


def test_half_precision_is_as_close_to_the_truth_as_the_literal_order():
    torch.manual_seed(0)
    shapes = PYRAMIDS["residual"]
    fast = TopDownStudents(shapes, 32, 32, 5)
    slow = literal(copy.deepcopy(fast))
    maps = [torch.randn(16, *shape).relu() for shape in shapes]

    def errors(students):
        exact = copy.deepcopy(students).double()([each.double() for each in maps])[1]
        with torch.autocast("cpu", torch.bfloat16):
            rounded = students(maps)[1]
        assert all(each.dtype == torch.bfloat16 for each in rounded.values())
        return [(rounded[name].double() - exact[name]).norm() / exact[name].norm() for name in exact]

    ours, theirs = errors(fast), errors(slow)
    assert sum(ours) < 1.3 * sum(theirs)
    assert max(ours) < 0.02


def test_an_unknown_fusion_is_refused():
    with pytest.raises(OptionError, match="fusion='sum' .*add, concat, mixed, none"):
        TopDownStudents(PYRAMIDS["residual"], 4, 4, 3, fusion="sum")
