import pytest
import torch
from torch.nn.functional import interpolate

from selfkd.branches.upsampling import upsampled


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(8, 12), (7, 11), (4, 6)])
def test_it_is_pytorchs_interpolation_in_value_gradient_and_layout(layout, size, align_corners):
    ours = torch.randn(2, 3, 4, 6, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    theirs = ours.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    result = upsampled(ours, *size, align_corners=align_corners)
    expected = interpolate(theirs, size=size, mode="bilinear", align_corners=align_corners)
    assert torch.equal(result, expected)
    assert result.is_contiguous(memory_format=layout)
    weights = torch.randn_like(expected)
    (result * weights).sum().backward()
    (expected * weights).sum().backward()
    assert torch.equal(ours.grad, theirs.grad)


def test_it_compiles_without_a_break():
    compiled = torch.compile(upsampled, backend="aot_eager", fullgraph=True)
    maps = torch.randn(2, 3, 4, 4, requires_grad=True)
    assert torch.equal(compiled(maps, 8, 8), upsampled(maps, 8, 8))


def test_it_follows_autocast():
    conv = torch.nn.Conv2d(3, 3, 1)
    with torch.autocast("cpu", torch.bfloat16):
        result = upsampled(conv(torch.randn(2, 3, 4, 4)), 8, 8)
    assert result.dtype == torch.bfloat16
    result.float().sum().backward()
    assert conv.weight.grad.dtype == torch.float32
