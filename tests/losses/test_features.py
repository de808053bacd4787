import pytest
import torch

from selfkd.losses import (
    attention_distance,
    attention_maps,
    euclidean_distance,
    masked_squared_distance,
    mean_squared_distance,
)

DISTANCES = (masked_squared_distance, mean_squared_distance, euclidean_distance)


def raw_features():
    """The features of the specification, section 5.3, before their ReLU: teacher, then three students, `[4, 6]`."""
    m = (6 * torch.arange(4)[:, None] + torch.arange(6)).double()
    return [torch.sin(0.3 * (b + 1) * m + 0.2) for b in range(4)]


def test_golden_distances_of_rectified_features_and_their_gradients():
    teacher, *students = [each.clamp(min=0).requires_grad_() for each in raw_features()]
    expected = [(5.78798, 4.81165), (6.24945, 4.99978), (6.32240, 5.02887)]
    for student, (distance, norm) in zip(students, expected, strict=True):
        value = masked_squared_distance(student, teacher.detach())
        value.backward()
        assert value.item() == pytest.approx(distance, rel=3e-6)
        assert student.grad.norm().item() == pytest.approx(norm, rel=3e-6)
    assert teacher.grad is None


def test_golden_distances_where_the_mask_counts():
    teacher, *students = raw_features()
    distances = [masked_squared_distance(student, teacher).item() for student in students]
    assert distances == pytest.approx([20.3092, 20.2184, 19.7624], rel=3e-6)
    unmasked = [(student - teacher).square().sum().item() for student in students]
    assert unmasked == pytest.approx([21.0740, 21.1484, 21.2779], rel=3e-6), "the mask makes a difference here"


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 2, 2)])
def test_the_mean_and_the_root_of_all_squared_differences(shape):
    student, teacher = torch.randn(2, *shape, dtype=torch.float64)
    squares = [(a - b) ** 2 for a, b in zip(student.flatten().tolist(), teacher.flatten().tolist(), strict=True)]
    assert mean_squared_distance(student, teacher).item() == pytest.approx(sum(squares) / len(squares))
    assert euclidean_distance(student, teacher).item() == pytest.approx(sum(squares) ** 0.5)


def test_the_gradient_of_the_euclidean_distance_has_length_one_and_is_none_at_zero():
    student, teacher = torch.randn(2, 4, 6, dtype=torch.float64)
    student.requires_grad_()
    euclidean_distance(student, teacher).backward()
    assert student.grad.norm().item() == pytest.approx(1)
    assert torch.autograd.grad(euclidean_distance(student, student.detach()), student)[0].abs().max() == 0


def test_half_precision_is_summed_in_full():
    student = torch.full((64, 512), 300.0, dtype=torch.float16, requires_grad=True)
    value = masked_squared_distance(student, torch.zeros(64, 512, dtype=torch.float16))
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(300.0**2 * 64 * 512, rel=1e-6)
    (1e-7 * value).backward()
    assert torch.isfinite(student.grad).all()
    assert mean_squared_distance(student, torch.zeros_like(student)).item() == pytest.approx(300.0**2, rel=1e-6)
    norm = euclidean_distance(student, torch.zeros_like(student)).item()
    assert norm == pytest.approx(300.0 * (64 * 512) ** 0.5, rel=1e-4)


@pytest.mark.parametrize("distance", DISTANCES)
def test_shapes_must_agree(distance):
    with pytest.raises(ValueError, match=r"one shape, got \(2, 3\) and \(2, 4\)"):
        distance(torch.zeros(2, 3), torch.zeros(2, 4))


def maps(channels, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, channels, 2, 4, generator=generator, dtype=dtype, requires_grad=True)


def test_attention_by_hand():
    """Squares 9, 16 and 0, 0 in two channels: the means 12.5 and 0; and 4, 36 in one."""
    two_channels = torch.tensor([[[[3.0, 0.0]], [[4.0, 0.0]]]])
    one_channel = torch.tensor([[[[2.0, -6.0]]]])
    assert attention_maps(two_channels).tolist() == [[1, 0]]
    length = (4**2 + 36**2) ** 0.5
    torch.testing.assert_close(attention_maps(one_channel), torch.tensor([[4 / length, 36 / length]]))
    expected = ((1 - 4 / length) ** 2 + (36 / length) ** 2) / 2
    assert attention_distance(two_channels, one_channel).item() == pytest.approx(expected, rel=1e-6)


def test_attention_distance_equals_a_loop():
    student, teacher = maps(5, 0), maps(7, 1)
    total = 0.0
    for a, b in zip(student.tolist(), teacher.tolist(), strict=True):
        vectors = []
        for channels in (a, b):
            values = [sum(c[y][x] ** 2 for c in channels) / len(channels) for y in range(2) for x in range(4)]
            length = sum(value**2 for value in values) ** 0.5
            vectors.append([value / length for value in values])
        total += sum((u - v) ** 2 for u, v in zip(*vectors, strict=True))
    assert attention_distance(student, teacher).item() == pytest.approx(total / (3 * 2 * 4), rel=1e-12)
    assert torch.autograd.gradcheck(attention_distance, (student, teacher))


def test_attention_of_a_map_is_that_of_the_same_map_scaled():
    student = maps(5, 0)
    assert attention_distance(student, 3 * student).item() == pytest.approx(0, abs=1e-30)
    assert attention_maps(student).norm(dim=1).tolist() == pytest.approx([1, 1, 1])


def test_attention_in_half_precision_is_computed_in_full():
    student = torch.full((2, 4, 3, 3), 300.0, dtype=torch.float16, requires_grad=True)
    value = attention_distance(student, torch.eye(3, dtype=torch.float16).expand(2, 1, 3, 3))
    value.backward()
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx((3 * (1 / 3 - 3**-0.5) ** 2 + 6 / 9) / 9, rel=1e-6)
    assert torch.isfinite(student.grad).all()


def test_a_map_of_zeros_has_no_attention_and_a_finite_gradient():
    student = torch.zeros(2, 4, 3, 3, requires_grad=True)
    value = attention_distance(student, torch.ones(2, 4, 3, 3))
    value.backward()
    assert value.item() == pytest.approx(1 / 9)
    assert torch.equal(student.grad, torch.zeros_like(student))


def test_attention_maps_must_have_one_size():
    with pytest.raises(ValueError, match=r"height and width, got \(2, 3, 4, 4\) and \(2, 3, 4, 2\)"):
        attention_distance(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 2))
