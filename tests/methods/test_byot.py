import typing

import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax

import golden
import selfkd
from exit_outputs import BATCH, DATA, HEADS, START, given_outputs, on_resnet18
from naive_losses import assert_same_loss
from operation_count import multiply_adds, parameters_of, thop_giga_operations
from selfkd.errors import OptionError
from selfkd.methods.byot import BYOT, EXIT_FORMS

OPTIONS = {"alpha": 0.3, "temperature": 2.0, "feature_weight": 0.01}


def squared_distance(first, second):
    """The sum of squares of differences, element by element, where one of two numbers is positive."""
    pairs = zip(first.flatten(), second.flatten(), strict=True)
    return sum((a - b) ** 2 for a, b in pairs if a > 0 or b > 0)


def naive_loss(given, compared, alpha, temperature, feature_weight):
    """The paper's loss, term by term; `compared` gives the exits' features and then the network's."""
    *features, last = compared
    loss = sum((1 - alpha) * cross_entropy(given.logits[head], golden.LABELS) for head in HEADS)
    target = softmax(given.logits["main"].detach() / temperature, dim=1)
    for head, feature in zip(HEADS[:3], features, strict=True):
        softened = log_softmax(given.logits[head] / temperature, dim=1)
        loss = loss + alpha * kl_div(softened, target, reduction="batchmean") * temperature**2
        loss = loss + feature_weight * squared_distance(feature, last.detach())
    return loss


@pytest.mark.parametrize("exit_form", EXIT_FORMS)
def test_the_loss_and_all_gradients_are_those_of_a_naive_loop(backbone, exit_form):
    method = selfkd.create_method("byot", backbone, DATA, exit_form=exit_form, **OPTIONS)
    given = given_outputs(method)
    maps = list(given.maps.values())
    pooled = [*(each.mean(dim=(2, 3)) for each in maps[:3]), given.pooled]
    compared = maps if exit_form == "loth" else pooled
    assert_same_loss(method(BATCH, START).loss, naive_loss(given, compared, **OPTIONS), given.leaves)


def test_the_network_learns_from_labels_alone(backbone):
    """Nothing else moves its own logits and feature; the exits learn from all three."""
    method = selfkd.create_method("byot", backbone, DATA)
    given = given_outputs(method)
    output = method(BATCH, START)
    z = given.logits
    own = torch.autograd.grad(0.9 * cross_entropy(z["main"], golden.LABELS), z["main"])[0]
    torch.testing.assert_close(torch.autograd.grad(output.loss, z["main"], retain_graph=True)[0], own)
    for term, learning in {"labels": HEADS, "distillation": HEADS[:3], "feature": ()}.items():
        found = torch.autograd.grad(output.terms[term], list(z.values()), allow_unused=True, retain_graph=True)
        assert tuple(head for head, each in zip(z, found, strict=True) if each is not None) == learning
    learning = torch.autograd.grad(output.terms["feature"], [*given.maps.values(), given.pooled], allow_unused=True)
    assert [each is not None for each in learning] == [True, True, True, False, False]


def test_the_signature_names_all_forms_of_the_exits():
    assert typing.get_args(typing.get_type_hints(BYOT.__init__)["exit_form"]) == tuple(EXIT_FORMS)


def test_training_costs_what_the_specification_says():
    """+1.79 M parameters and +7.2 % multiply-adds; in LOTH's form +33 %."""
    method = on_resnet18("byot", 100)
    assert parameters_of(method.branches) == 1_791_020
    own, wide = multiply_adds(method.predict), multiply_adds(on_resnet18("byot", 100, exit_form="loth").predict)
    plain = multiply_adds(method.deployed())
    assert own - plain == 39_999_488
    assert own / plain == pytest.approx(1.072, abs=5e-4)
    assert wide / plain == pytest.approx(1.33, abs=5e-3)


@pytest.mark.parametrize(
    ("network", "giga_operations"), [("resnet18_cifar", 0.599), ("resnext18_cifar", 1.147), ("vgg16_cifar", 0.319)]
)
def test_training_costs_what_dtskd_measured(network, giga_operations):
    """Table 2 has .60, 1.15 and .32; the specification's section G gives the third digit."""
    backbone = selfkd.create_backbone(network, 100)
    method = selfkd.create_method("byot", backbone, selfkd.DatasetInfo(50_000, 100)).to("meta").eval()
    assert thop_giga_operations(method.predict) == pytest.approx(giga_operations, abs=0.0006)


def test_exits_in_loths_form_have_the_sizes_of_the_posters_table_4():
    exits = on_resnet18("byot", 200, exit_form="loth").exits()
    sizes = [round(parameters_of(exits[head]) / 1e6, 2) for head in HEADS]
    assert sizes == [2.91, 3.47, 5.63, 11.27]


def test_exits_start_with_normal_weights_of_their_fan_out():
    torch.manual_seed(0)
    reducing = on_resnet18("byot", 100).branches.exits[0].chain[1][0].weight
    assert reducing.shape == (128, 128, 8, 8)
    assert reducing.std().item() == pytest.approx((2 / (8 * 8 * 128)) ** 0.5, rel=0.01)


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("alpha", -0.1, r"in \[0, 1\)"),
        ("alpha", 1, r"in \[0, 1\)"),
        ("temperature", 0.0, "> 0"),
        ("feature_weight", -1e-6, ">= 0"),
        ("exit_form", "wide", "loth, narrow"),
    ],
)
def test_values_out_of_range_are_refused(backbone, data, option, value, allowed):
    with pytest.raises(OptionError, match=rf"{option}=.*{allowed}"):
        selfkd.create_method("byot", backbone, data, **{option: value})
