import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax

import golden
import selfkd
from exit_outputs import BATCH, DATA, HEADS, START, given_outputs, on_resnet18
from naive_losses import assert_same_loss, gradients
from operation_count import multiply_adds, parameters_of
from selfkd.errors import OptionError


def naive_loss(given, alpha, beta, temperature, feature_weight):
    """The paper's loss, exit by exit; the target has no gradient."""
    total = sum(beta**i for i in range(4))
    with torch.no_grad():
        logits = sum(beta**i / total * given.logits[head] for i, head in enumerate(HEADS))
        maps = sum(beta**i / total * given.maps[head] for i, head in enumerate(HEADS))
    target = softmax(logits / temperature, dim=1)
    loss = torch.zeros((), dtype=torch.float64)
    for i, head in enumerate(HEADS):
        weight = alpha ** (3 - i)
        softened = log_softmax(given.logits[head] / temperature, dim=1)
        loss = loss + (2 - weight) * cross_entropy(given.logits[head], golden.LABELS)
        loss = loss + weight * kl_div(softened, target, reduction="batchmean") * temperature**2
        squares = [(a - b) ** 2 for a, b in zip(given.maps[head].flatten(), maps.flatten(), strict=True)]
        loss = loss + feature_weight * sum(squares) / len(squares)
    return loss


def test_the_loss_and_all_gradients_are_those_of_a_naive_loop(backbone):
    options = {"alpha": 1.2, "beta": 0.7, "temperature": 2.0, "feature_weight": 3.0}
    method = selfkd.create_method("beed", backbone, DATA, **options)
    given = given_outputs(method)
    assert_same_loss(method(BATCH, START).loss, naive_loss(given, **options), given.leaves)
    learning = set(gradients(method(BATCH, START).loss, given.leaves))
    assert learning == {*HEADS, *(f"map of {head}" for head in HEADS)}, "the network and its last map learn, too"


def test_the_defaults_give_the_weights_of_the_specification(backbone, data):
    method = selfkd.create_method("beed", backbone, data)
    ensemble, teacher = method.ensemble_weights, method.distillation_weights
    assert [ensemble[head] for head in HEADS] == pytest.approx([0.108, 0.173, 0.277, 0.443], abs=5e-4)
    assert [teacher[head] for head in HEADS] == pytest.approx([1.521, 1.323, 1.15, 1], abs=6e-4)
    assert [2 - teacher[head] for head in HEADS] == pytest.approx([0.479, 0.678, 0.85, 1], abs=6e-4)


def test_training_costs_what_the_specification_says():
    """+9.97 M parameters and +54 % multiply-adds."""
    method = on_resnet18("beed", 100)
    assert parameters_of(method.branches) == 9_972_780
    plain = multiply_adds(method.deployed())
    assert multiply_adds(method.predict) / plain == pytest.approx(1.54, abs=5e-3)


def test_its_exits_are_loths():
    """They have the same layers, and the sizes of the poster's Table 4."""
    method, loth = on_resnet18("beed", 200), on_resnet18("loth", 200)
    assert str(method.branches) == str(loth.chains)
    exits = method.exits()
    sizes = [round(parameters_of(exits[head]) / 1e6, 2) for head in HEADS]
    assert sizes == [3.87, 4.22, 5.63, 11.27]


def test_exits_start_with_normal_weights_of_their_fan_out():
    torch.manual_seed(0)
    conv = on_resnet18("beed", 100).branches.exits[0].chain[2][1][0].weight
    assert conv.shape == (512, 512, 3, 3)
    assert conv.std().item() == pytest.approx((2 / (9 * 512)) ** 0.5, rel=0.01)


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("alpha", 0.0, "> 0"),
        ("alpha", 1.3, r"above 2\^\(1/3\) = 1.260.*away from the labels"),
        ("beta", 0.0, "> 0"),
        ("temperature", -3.0, "> 0"),
        ("feature_weight", float("nan"), ">= 0"),
    ],
)
def test_values_out_of_range_are_refused(backbone, data, option, value, allowed):
    with pytest.raises(OptionError, match=rf"{option}=.*{allowed}"):
        selfkd.create_method("beed", backbone, data, **{option: value})
