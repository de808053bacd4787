import typing

import pytest
import torch
from torch.nn.functional import cross_entropy, log_softmax, softmax

import golden
import selfkd
from exit_outputs import BATCH, DATA, HEADS, START, given_outputs, on_resnet18
from naive_losses import assert_same_loss, gradients
from operation_count import multiply_adds, parameters_of
from selfkd.errors import BatchError, OptionError
from selfkd.methods.ecsd import ECSD, EXIT_FORMS, TARGETS


def naive_loss(given, adapters, target, distillation_weight, feature_weight, temperature):
    """The authors' loss, exit by exit."""
    z, (*exits, main) = given.logits, HEADS
    mean = sum(z[head] for head in HEADS) / 4
    teacher = softmax({"deepest": z[main], "mean": mean}[target].detach() / temperature, dim=1)
    loss = cross_entropy(z[main], golden.LABELS)
    for head in exits:
        loss = loss + (1 - distillation_weight) * cross_entropy(z[head], golden.LABELS)
        softened = log_softmax(z[head] / temperature, dim=1)
        rows = [-(t * s).sum() for t, s in zip(teacher, softened, strict=True)]
        loss = loss + distillation_weight * sum(rows) / len(rows)  # no T^2
    for head in exits[:2]:
        adapter = adapters[head]
        adapted = given.maps[head].mean(dim=(2, 3)) @ adapter.weight.T + adapter.bias
        squares = [(a - b) ** 2 for a, b in zip(adapted.flatten(), given.pooled.detach().flatten(), strict=True)]
        loss = loss + feature_weight * sum(squares) ** 0.5
    return loss


@pytest.mark.parametrize("target", TARGETS)
def test_the_loss_and_all_gradients_are_those_of_a_naive_loop(backbone, target):
    options = {"target": target, "distillation_weight": 0.4, "feature_weight": 0.5, "temperature": 2.0}
    method = selfkd.create_method("ecsd", backbone, DATA, **options)
    given = given_outputs(method)
    assert_same_loss(method(BATCH, START).loss, naive_loss(given, method.adapters, **options), given.leaves)


@pytest.mark.parametrize("target", TARGETS)
def test_the_network_learns_from_labels_alone(backbone, target):
    """The deepest exit's feature has no term, either."""
    method = selfkd.create_method("ecsd", backbone, DATA, target=target)
    given = given_outputs(method)
    output = method(BATCH, START)
    z = given.logits["main"]
    own = torch.autograd.grad(cross_entropy(z, golden.LABELS), z)[0]
    found = gradients(output.loss, given.leaves)
    torch.testing.assert_close(found.pop("main"), own)
    assert set(found) == {*HEADS[:3], "map of branch1", "map of branch2"}
    assert set(gradients(method(BATCH, START).terms["distillation"], given.leaves)) == set(HEADS[:3])


def test_the_adapters_learn(backbone, batch, data):
    method = selfkd.create_method("ecsd", backbone, data)
    method(batch, START).loss.backward()
    assert list(method.adapters) == ["branch1", "branch2"]
    assert all(parameter.grad.abs().sum() > 0 for parameter in method.adapters.parameters())


def test_the_signature_names_all_forms_of_the_exits_and_all_targets():
    for option, table in {"exit_form": EXIT_FORMS, "target": TARGETS}.items():
        assert typing.get_args(typing.get_type_hints(ECSD.__init__)[option]) == tuple(table)


def test_training_costs_what_the_specification_says():
    """1,063,212 parameters beside the adapters, and +4.8 % multiply-adds; in LOTH's form +3.0 %."""
    method = on_resnet18("ecsd", 100)
    assert parameters_of(method.branches) == 1_063_212
    assert parameters_of(method.adapters) == 2 * (512 * 512 + 512)
    plain = multiply_adds(method.deployed())
    assert multiply_adds(method.predict) / plain == pytest.approx(1.048, abs=5e-4)
    assert multiply_adds(on_resnet18("ecsd", 100, exit_form="loth").predict) / plain == pytest.approx(1.030, abs=5e-4)


def test_exits_in_loths_form_have_the_sizes_of_the_posters_table_4():
    exits = on_resnet18("ecsd", 200, exit_form="loth").exits()
    sizes = [round(parameters_of(exits[head]) / 1e6, 2) for head in HEADS]
    assert sizes == [0.44, 0.97, 3.08, 11.27]


def test_the_exits_see_the_masked_map_and_the_network_does_not(backbone, batch, data):
    method = selfkd.create_method("ecsd", backbone, data).eval()
    plain = method.deployed()(batch.images)
    before = method.predict(batch.images)
    for exit_ in method.branches.exits:
        exit_.chain[0].halve = torch.nn.AvgPool2d(2)  # another mask
    after = method.predict(batch.images)
    assert torch.equal(after["main"], plain)
    assert not any(torch.allclose(after[head], before[head]) for head in HEADS[:3])


def test_one_sample_is_refused_where_a_mask_is_halved_to_one_pixel():
    sizes = ((3, 1), (4, 2), (4, 1), (4, 1))  # of a convolution: its input channels and its stride
    convolutions = [torch.nn.Conv2d(channels, 4, 3, stride, padding=1) for channels, stride in sizes]
    head = [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 10)]
    backbone = selfkd.stage(torch.nn.Sequential(*convolutions, *head), ["0", "1", "2", "3"], input_size=4)
    assert backbone.final_shape == (4, 2, 2)
    one = selfkd.Batch(torch.randn(1, 3, 4, 4), torch.tensor([1]))
    method = selfkd.create_method("ecsd", backbone, DATA)
    with pytest.raises(BatchError, match=r"layer \S+\.halve\.\S+ has one value .* 2 samples"):
        method(one, START)
    assert torch.isfinite(method.eval()(one, START).loss)
    assert torch.isfinite(selfkd.create_method("beed", backbone, DATA)(one, START).loss), "no map of BEED's is so small"


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("distillation_weight", 1.5, r"in \[0, 1\]"),
        ("feature_weight", -0.03, ">= 0"),
        ("temperature", 0.0, "> 0"),
        ("exit_form", "narrow", "loth, official"),
        ("target", "ensemble", "deepest, mean"),
    ],
)
def test_values_out_of_range_are_refused(backbone, data, option, value, allowed):
    with pytest.raises(OptionError, match=rf"{option}=.*{allowed}"):
        selfkd.create_method("ecsd", backbone, data, **{option: value})
