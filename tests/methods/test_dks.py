import pytest
import torch

import golden
import naive_losses
import seats
import selfkd
from operation_count import multiply_adds, parameters_of, thop_giga_operations
from selfkd.errors import BackboneError, OptionError

HEADS = ("main", "branch1", "branch2")
START = selfkd.Progress(0, 1)


def on(name, num_classes=100, **options):
    """DKS on a network at full width, for images of 32x32."""
    backbone = selfkd.create_backbone(name, num_classes, input_size=32)
    return selfkd.create_method("dks", backbone, selfkd.DatasetInfo(50_000, num_classes), **options)


def with_golden_heads(backbone, data):
    """A real DKS whose classifiers give the golden logits."""
    method = selfkd.create_method("dks", backbone, data)
    z = dict(zip(HEADS, golden.logits(), strict=False))
    method.predict = lambda images: z
    return method, z


def test_the_loss_equals_a_naive_loop(backbone, batch, data):
    method, z = with_golden_heads(backbone, data)
    output = method(batch, START)
    labels = sum(naive_losses.cross_entropy(each, batch.labels) for each in z.values())
    mutual = sum(
        naive_losses.divergence(z[learner], z[teacher]) for learner in z for teacher in z if learner != teacher
    )
    assert output.terms["labels"].item() == pytest.approx(labels.item(), rel=1e-9)
    assert output.terms["mutual"].item() == pytest.approx(mutual.item(), rel=1e-9)
    assert output.loss.item() == pytest.approx((labels + mutual).item(), rel=1e-9)


def test_whoever_teaches_gets_no_gradient(backbone, batch, data):
    """Then the gradient of a classifier is the sum of its differences from the label and from both others."""
    method, z = with_golden_heads(backbone, data)
    method(batch, START).loss.backward()
    p = {head: each.detach().softmax(dim=1) for head, each in z.items()}
    one_hot = torch.nn.functional.one_hot(batch.labels, golden.K)
    for head, each in z.items():
        expected = (p[head] - one_hot) + sum(p[head] - p[other] for other in HEADS if other != head)
        torch.testing.assert_close(each.grad, expected / golden.B)


def test_every_part_learns(backbone, batch, data):
    method = selfkd.create_method("dks", backbone, data)
    output = method(batch, START)
    output.loss.backward()
    assert tuple(output.logits) == HEADS
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in method.parameters())


def test_the_branches_start_on_stages_2_and_3(backbone, batch, data):
    """What is after stage 3 (2) has no part in branch2 (branch1)."""
    method = selfkd.create_method("dks", backbone, data)
    logits = method.predict(batch.images)
    network = backbone.network
    for head, reached, others in (
        ("branch1", "layer2", ("layer3", "layer4", "fc")),
        ("branch2", "layer3", ("layer4", "fc")),
    ):
        network.zero_grad()
        logits[head].sum().backward(retain_graph=True)
        assert all(each.grad is not None for each in network.get_submodule(reached).parameters())
        assert all(each.grad is None for other in others for each in network.get_submodule(other).parameters())


@pytest.mark.parametrize(
    ("name", "depth"),
    [("resnet18_cifar", 1), ("resnet34_cifar", 1), ("vgg11_cifar", 1), ("vgg19_cifar", 2), ("shufflenetv1_cifar", 2)],
)
def test_branch_1_has_all_blocks_of_stage_3_and_half_those_of_stage_4(name, depth):
    backbone = selfkd.create_backbone(name, 10, width=seats.small_width(name), input_size=32)
    branches = selfkd.create_method("dks", backbone, selfkd.DatasetInfo(4, 10)).branches
    assert [len(stage) for stage in branches.branch1.chain[:2]] == [backbone.stage_depth(2), depth]
    assert len(branches.branch2.chain[0]) == backbone.stage_depth(3)
    assert [branch.classifier.in_features for branch in branches.children()] == [
        backbone.num_features,
        2 * backbone.num_features,
    ]


def test_a_resnet_18_has_the_sizes_of_the_specification():
    method = on("resnet18_cifar").to("meta").eval()
    first, second = (parameters_of(branch) for branch in method.branches.children())
    assert (first, second) == (5_824_100, 31_045_732)
    plain, branches = 555_468_800, 688_019_456
    assert multiply_adds(method.predict, device="meta") == plain + branches
    assert branches / plain == pytest.approx(1.24, abs=0.005)


@pytest.mark.parametrize(
    ("name", "factor", "published"),
    [("resnet18_cifar", 2, 1.247), ("resnext18_cifar", 2, 2.475), ("vgg16_cifar", 1, 0.447), ("vgg16_cifar", 2, 0.513)],
)
def test_training_costs_what_dtskd_measured(name, factor, published):
    """Table 2 has 1.25, 2.47 and .45; the specification's section G gives the third digit."""
    method = on(name, last_width_factor=factor).to("meta").eval()
    assert thop_giga_operations(method.predict) == pytest.approx(published, abs=0.0005)


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), 9, "2", True])
def test_a_width_factor_out_of_range_is_refused(backbone, data, value):
    with pytest.raises(OptionError, match=r"last_width_factor=.*(> 0 and at most 8|a number)"):
        selfkd.create_method("dks", backbone, data, last_width_factor=value)


def test_a_network_that_cannot_build_new_stages_is_refused(data):
    network = selfkd.create_backbone("resnet10t", 10, input_size=64)
    with pytest.raises(BackboneError, match=r"DKS needs a network that can build its own blocks anew .*ResNet cannot"):
        selfkd.create_method("dks", network, data)
