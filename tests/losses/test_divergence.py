import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div

import golden
from selfkd.losses import kl_to_target, label_probabilities, soft_cross_entropy, softened_kl

EPSILON = 1e-7


PRECISIONS = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


@PRECISIONS
def test_cross_entropy_golden_values(dtype):
    """The inputs of all others (section 5.2)."""
    values = [cross_entropy(z, golden.LABELS).item() for z in (*golden.logits(dtype), golden.fused_logits(dtype))]
    assert values == pytest.approx([1.71457, 2.43337, 2.16766, 2.98588, 2.99924], rel=1e-5)


@PRECISIONS
@pytest.mark.parametrize(("branch", "value"), [(1, 1.17596), (2, 1.58120), (3, 2.28732)])
def test_softened_kl_golden_values(branch, value, dtype):
    z = golden.logits(dtype)
    assert softened_kl(z[branch], z[0], 4, EPSILON).item() == pytest.approx(value, rel=1e-5)


@PRECISIONS
def test_softened_kl_golden_gradients_reach_both_sides(dtype):
    z = golden.logits(dtype)
    softened_kl(z[1], z[0], 4, EPSILON).backward()
    assert z[1].grad.norm().item() == pytest.approx(0.239283, rel=1e-5)
    assert z[0].grad.norm().item() == pytest.approx(0.222672, rel=1e-5)
    assert z[1].grad[0, :3].tolist() == pytest.approx([0.0157129, 0.0161397, 0.00332115], rel=1e-5)


def test_softened_kl_gradient_of_the_teacher_is_the_formula():
    z, temperature = golden.logits(), 4
    softened_kl(z[1], z[0], temperature, EPSILON).backward()
    q = (z[0].detach() / temperature).softmax(1)
    g = (q + EPSILON).log() - (z[1].detach() / temperature).log_softmax(1) + 1
    formula = temperature / golden.B * q * (g - (q * g).sum(1, keepdim=True))
    assert torch.allclose(z[0].grad, formula, rtol=1e-9, atol=0)


@PRECISIONS
def test_golden_gradients_of_hard_labels_with_structural_loss(dtype):
    """TESKD's total without its feature loss, which touches no logits; the specification lists z0's first entries
    beside the single divergence, but they are those of this total."""
    z = golden.logits(dtype)
    hard = sum(cross_entropy(each, golden.LABELS) for each in z)
    structural = sum(softened_kl(each, z[0], 4, EPSILON) for each in z[1:])
    (0.2 * hard + 0.8 * structural).backward()
    assert hard.item() == pytest.approx(9.30148, rel=1e-5)
    assert structural.item() == pytest.approx(5.04449, rel=1e-5)
    assert z[0].grad[0, :3].tolist() == pytest.approx([-0.0689021, -0.126455, 0.0166612], rel=1e-5)
    norms = [each.grad.norm().item() for each in z]
    assert norms == pytest.approx([0.590573, 0.242836, 0.264673, 0.321505], rel=1e-5)


def test_softened_kl_without_epsilon():
    z = golden.logits()
    assert softened_kl(z[1], z[0], 4).item() == pytest.approx(1.17595, abs=1e-5)
    difference = softened_kl(z[1], z[0], 4, EPSILON) - softened_kl(z[1], z[0], 4)
    assert difference.item() == pytest.approx(1.6e-5, rel=0.05)


def test_softened_kl_equals_torch():
    z = golden.logits()
    theirs = kl_div((z[2] / 3).log_softmax(1), (z[0] / 3).softmax(1), reduction="batchmean") * 9
    assert softened_kl(z[2], z[0], 3).item() == pytest.approx(theirs.item(), rel=1e-12)


def test_softened_kl_is_zero_at_equality_and_positive_elsewhere():
    z = golden.logits()
    assert softened_kl(z[0], z[0], 4).item() == pytest.approx(0, abs=1e-12)
    assert softened_kl(z[1], z[0], 4).item() > 0


def test_softened_kl_survives_certain_teachers():
    teacher = torch.tensor([[1e4, 0.0, -1e4]], requires_grad=True)
    student = torch.zeros(1, 3, requires_grad=True)
    softened_kl(student, teacher, 1).backward()
    assert torch.isfinite(teacher.grad).all()
    assert torch.isfinite(student.grad).all()


# beta, value and gradient norm of H(beta onehot + (1 - beta) h0, z0); soft cross-entropy without entropy (section 5.4)
HISTORICAL = [
    (1.0, 1.71456, 0.452820, None),
    (0.9, 1.35675, 0.406790, 1.86364),
    (0.45, 0.779983, 0.226737, 2.53444),
    (0.0, 1.07614, 0.205070, 3.20525),
]


@PRECISIONS
@pytest.mark.parametrize(("beta", "value", "gradient", "soft"), HISTORICAL)
def test_kl_to_target_golden_values(beta, value, gradient, soft, dtype):
    z0 = golden.logits(dtype)[0]
    history = golden.histories()[0].to(dtype)
    target = beta * label_probabilities(golden.LABELS, golden.K, dtype) + (1 - beta) * history
    loss = kl_to_target(z0, target, EPSILON)
    loss.backward()
    assert loss.item() == pytest.approx(value, rel=1e-5)
    assert z0.grad.norm().item() == pytest.approx(gradient, rel=1e-5)
    if soft is not None:
        assert soft_cross_entropy(z0, target).item() == pytest.approx(soft, rel=1e-5)


def test_soft_cross_entropy_with_one_hot_targets_is_cross_entropy():
    z0 = golden.logits()[0]
    one_hot = label_probabilities(golden.LABELS, golden.K, torch.float64)
    assert soft_cross_entropy(z0, one_hot).item() == pytest.approx(1.71457, rel=1e-5)
    assert soft_cross_entropy(z0, one_hot).item() == pytest.approx(cross_entropy(z0, golden.LABELS).item(), rel=1e-12)


def test_kl_to_target_accepts_zero_probabilities():
    z0 = golden.logits()[0]
    one_hot = label_probabilities(golden.LABELS, golden.K, torch.float64)
    assert kl_to_target(z0, one_hot).item() == pytest.approx(cross_entropy(z0, golden.LABELS).item(), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_are_float32_for_half_precision_and_under_autocast(dtype):
    z = [each.detach() for each in golden.logits()]
    half = [each.to(dtype) for each in z]
    with torch.autocast("cpu", torch.bfloat16):
        losses = [
            softened_kl(half[1], half[0], 4, EPSILON),
            kl_to_target(half[0], golden.histories()[0].to(dtype), EPSILON),
            soft_cross_entropy(half[0], golden.histories()[0].to(dtype)),
        ]
    exact = [
        softened_kl(half[1].double(), half[0].double(), 4, EPSILON),
        kl_to_target(half[0].double(), golden.histories()[0].to(dtype).double(), EPSILON),
        soft_cross_entropy(half[0].double(), golden.histories()[0].to(dtype).double()),
    ]
    for loss, reference in zip(losses, exact, strict=True):
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(reference.item(), rel=1e-5)


def test_wrong_arguments_are_refused():
    z = golden.logits()
    with pytest.raises(ValueError, match="temperature must be > 0, got 0"):
        softened_kl(z[0], z[1], 0)
    with pytest.raises(ValueError, match="epsilon must be >= 0"):
        softened_kl(z[0], z[1], 1, -1e-7)
    with pytest.raises(ValueError, match=r"\(4, 10\) and \(4, 9\)"):
        kl_to_target(z[0], z[1][:, :9])
    with pytest.raises(ValueError, match="one shape"):
        soft_cross_entropy(z[0], z[1][:3])
