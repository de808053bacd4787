import pytest
import torch
from torch.nn.functional import batch_norm, conv2d, max_pool2d, pad

from selfkd.branches.self_teacher import SelfTeacher

SHAPES = {
    "even": ((4, 16, 8), (6, 8, 4), (8, 4, 2), (10, 2, 1)),
    "odd": ((4, 13, 7), (6, 7, 4), (8, 4, 2), (10, 2, 1)),
    "equal": ((4, 6, 6), (4, 6, 6), (8, 3, 3), (10, 3, 3)),
}


def maps(shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(3, *shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes]


def built(shapes, **options):
    """A self-teacher whose fusion weights and normalisations are no longer those of its start."""
    torch.manual_seed(1)
    teacher = SelfTeacher([shape[0] for shape in shapes], 5, **options).double()
    for parameter in teacher.parameters():
        if parameter.ndim == 1:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    with torch.no_grad():
        teacher.path_up[0].weights[1] = -0.25
    return teacher


def normalised(x, norm):
    return batch_norm(x, None, None, norm.weight, norm.bias, training=True)


def conv_norm_relu(x, block):
    return normalised(conv2d(x, block[0].weight), block[1]).relu()


def separable(x, node):
    """`depth` units of depthwise 3x3, 1x1 and normalisation; a ReLU between them, none after the last."""
    for number, (depthwise, pointwise) in enumerate(node.convolutions):
        x = conv2d(x.relu() if number else x, depthwise.weight, padding=1, groups=x.shape[1])
        x = normalised(conv2d(x, pointwise[0].weight), pointwise[1])
    return x


def mean(node, *inputs):
    shares = [max(weight, 0) for weight in node.weights.tolist()]
    return sum(share * each for share, each in zip(shares, inputs, strict=True)) / (sum(shares) + 1e-6)


def enlarged(x, height, width):
    """Each value stands for a square of two by two; a last row or column that the larger map lacks is cut."""
    if x.shape[2:] == (height, width):
        return x
    return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)[:, :, :height, :width]


def reduced(x, height, width):
    """TensorFlow's "same" max pooling: zeros on both sides of an odd length, at the end of an even one."""
    if x.shape[2:] == (height, width):
        return x
    padding = [amount for side in reversed(x.shape[2:]) for amount in ((1, 1) if side % 2 else (0, 1))]
    return max_pool2d(pad(x, padding), 3, 2)


def literal(teacher, f):
    """The self-teacher as the specification writes it, level by level, for four maps."""
    sizes = [each.shape[2:] for each in f]
    u4 = conv_norm_relu(f[3], teacher.top)
    u = [None, None, None, u4]
    for i in (2, 1, 0):
        node = teacher.path_down[i]
        p = conv_norm_relu(f[i], node.lateral)
        up = conv_norm_relu(enlarged(u[i + 1].relu(), *sizes[i]), node.neighbour)
        u[i] = separable(mean(node, p.relu(), up), node)
    o = [u[0]]
    for i in (1, 2, 3):
        node = teacher.path_up[i - 1]
        lateral = conv_norm_relu(f[i], node.lateral)
        down = conv_norm_relu(reduced(o[i - 1].relu(), *sizes[i]), node.neighbour)
        inputs = (lateral.relu(), down) if i == 3 else (lateral.relu(), u[i].relu(), down)
        o.append(separable(mean(node, *inputs), node))
    refined = [each.relu() for each in o]
    logits = refined[3].mean(dim=(2, 3)) @ teacher.classifier.weight.T + teacher.classifier.bias
    return refined, logits


@pytest.mark.parametrize("options", [{}, {"width_factor": 1, "depth": 1}, {"width_factor": 3, "depth": 3}])
@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
def test_it_computes_what_the_specification_says(shapes, options):
    teacher = built(shapes, **options)
    network_maps = maps(shapes)
    output = teacher(network_maps)
    expected_maps, expected_logits = literal(teacher, network_maps)
    factor = options.get("width_factor", 2)
    assert [each.shape[1:] for each in output.maps] == [(factor * c, h, w) for c, h, w in shapes]
    torch.testing.assert_close(output.maps, expected_maps)
    torch.testing.assert_close(output.logits, expected_logits)


def test_a_fusion_weight_below_zero_switches_its_map_off():
    teacher = built(SHAPES["even"])
    node = teacher.path_up[0]
    assert node.weights[1] < 0
    network_map, neighbour, refined = (torch.randn(3, c, 8, 4, dtype=torch.float64) for c in (6, 8, 12))
    assert torch.equal(node(network_map, neighbour, refined), node(network_map, neighbour, 2 * refined))
    node(network_map, neighbour, refined).sum().backward()
    assert node.weights.grad[1] == 0


def test_every_part_and_every_map_learns_from_the_logits():
    torch.manual_seed(0)
    teacher = SelfTeacher([shape[0] for shape in SHAPES["even"]], 5).double()
    network_maps = maps(SHAPES["even"])
    teacher(network_maps).logits.square().sum().backward()
    for tensor in (*teacher.parameters(), *network_maps):
        assert tensor.grad is not None
        assert tensor.grad.abs().sum() > 0


def test_the_release_has_as_many_parameters():
    """Specification, section H: on a ResNet-18 with 100 classes."""
    teacher = SelfTeacher((64, 128, 256, 512), 100)
    assert sum(parameter.numel() for parameter in teacher.parameters()) == 6_375_794
