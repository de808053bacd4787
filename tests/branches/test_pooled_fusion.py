import pytest
import torch

from selfkd.branches.pooled_fusion import _pooled


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_pooling_is_the_mean_and_its_gradient_keeps_the_layout(layout):
    maps = torch.randn(3, 5, 4, 6, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    assert torch.equal(_pooled(maps), maps.mean(dim=(2, 3)))
    assert torch.autograd.gradcheck(_pooled, (maps,))
    assert torch.autograd.gradgradcheck(_pooled, (maps,))
    (gradient,) = torch.autograd.grad(_pooled(maps).sum(), maps)
    assert gradient.is_contiguous(memory_format=layout)


def test_pooling_compiles_without_a_break():
    maps = torch.randn(3, 5, 4, 4, requires_grad=True)
    compiled = torch.compile(_pooled, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(maps), maps.mean(dim=(2, 3)))
