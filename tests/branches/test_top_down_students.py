"""The fast order of operations against the literal one, and the structure against the specification."""

import copy

import pytest
import torch
from torch import nn

from benchmark_files import load_benchmark
from selfkd.branches import TopDownStudents
from selfkd.errors import OptionError

literal = load_benchmark("literal_teskd").literal

PYRAMIDS = {
    "residual": ((4, 16, 16), (6, 8, 8), (8, 4, 4), (10, 2, 2)),
    "vgg": ((4, 8, 8), (6, 4, 4), (8, 2, 2), (8, 1, 1)),
    "odd and not square": ((4, 17, 23), (6, 9, 12), (8, 5, 6), (10, 3, 3)),
}


def students_and_maps(pyramid, **options):
    generator = torch.Generator().manual_seed(3)
    torch.manual_seed(0)
    students = TopDownStudents(pyramid, 12, 10, 5, **options).double()
    maps = [torch.randn(3, *shape, generator=generator).double().relu().requires_grad_() for shape in pyramid]
    return students, maps


@pytest.mark.parametrize("pyramid", PYRAMIDS)
@pytest.mark.parametrize("fusion", ["mixed", "concat", "add", "none"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_outputs_gradients_and_statistics_equal_the_literal_order(pyramid, fusion, layout):
    fast, maps = students_and_maps(PYRAMIDS[pyramid], fusion=fusion)
    slow = literal(copy.deepcopy(fast))
    fast.to(memory_format=layout)
    results = {}
    for name, students in (("fast", fast), ("slow", slow)):
        features, logits = students([each.detach().to(memory_format=layout).requires_grad_() for each in maps])
        outputs = [*features.values(), *logits.values()]
        inputs = [each.clone(memory_format=torch.preserve_format) for each in maps]
        inputs = [each.detach().requires_grad_() for each in inputs]
        features, logits = students(inputs)
        outputs = [*features.values(), *logits.values()]
        weights = [torch.linspace(-1, 1, each.numel()).view_as(each) for each in outputs]
        sum((w * each).sum() for w, each in zip(weights, outputs, strict=True)).backward()
        results[name] = {
            **{f"output {i}": each.detach() for i, each in enumerate(outputs)},
            **{f"input gradient {i}": each.grad for i, each in enumerate(inputs) if each.grad is not None},
        }
    assert results["fast"].keys() == results["slow"].keys()
    for key, value in results["slow"].items():
        assert torch.allclose(results["fast"][key], value, rtol=1e-11, atol=1e-12), key
    fast_gradients = sorted((p.grad for p in fast.parameters()), key=_order)
    slow_gradients = sorted((p.grad for p in slow.parameters()), key=_order)
    for ours, theirs in zip(fast_gradients, slow_gradients, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-12)
    for ours, theirs in zip(_norms(fast), _norms(slow), strict=True):
        assert torch.allclose(ours.running_mean, theirs.running_mean, rtol=1e-12, atol=1e-13)
        assert torch.allclose(ours.running_var, theirs.running_var, rtol=1e-12, atol=1e-13)
