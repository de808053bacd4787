import pytest
import torch
from torch.nn.functional import cross_entropy

import golden
import golden_steps
import selfkd
from literal_teskd import literal
from operation_count import multiply_adds, parameters_of
from selfkd.errors import BackboneError, BatchError, OptionError

HEADS = ("main", "branch1", "branch2", "branch3")
START = selfkd.Progress(0, 200)


def with_golden_heads(backbone, **options):
    """A real TESKD whose heads give the golden logits and whose pooled features are the golden ones."""
    step = golden_steps.teskd(backbone, **options)
    return step.method, list(step.logits.values()), list(step.features), step.batch


def test_golden_total_and_gradients(backbone):
    method, z, f, batch = with_golden_heads(backbone)
    output = method(batch, START)
    output.loss.backward()
    assert output.terms["label"].item() == pytest.approx(9.30148, rel=1e-5)
    assert output.terms["distillation"].item() == pytest.approx(5.04449, rel=1e-5)
    assert output.terms["feature"].item() == pytest.approx(18.3598, rel=1e-5)
    assert output.loss.item() == pytest.approx(5.89589, rel=1e-5)
    norms = [each.grad.norm().item() for each in z]
    assert norms == pytest.approx((0.590573, 0.242836, 0.264673, 0.321505), rel=1e-5)
    # The specification prints this beside the divergence alone; it is the gradient of the total.
    assert z[0].grad[0, :3].tolist() == pytest.approx((-0.0689021, -0.126455, 0.0166612), rel=1e-5)
    assert f[0].grad is None
    scaled = [each.grad.norm().item() / 1e-7 for each in f[1:]]
    assert scaled == pytest.approx((4.81165, 4.99978, 5.02887), rel=1e-5)


def test_a_supervision_replaces_the_label_in_every_cross_entropy_and_nothing_else(backbone):
    method, z, _, batch = with_golden_heads(backbone)
    smoothed, *_ = with_golden_heads(backbone, supervision=selfkd.create_supervision("smoothed", smoothing=0.3))
    before, after = method(batch, START), smoothed(batch, START)
    expected = sum(cross_entropy(logits, batch.labels, label_smoothing=0.3) for logits in z)
    assert after.terms["label"].item() == pytest.approx(expected.item(), rel=1e-6)
    for term in ("distillation", "feature"):
        assert torch.equal(after.terms[term], before.terms[term])
    change = 0.2 * (after.terms["label"] - before.terms["label"])
    assert (after.loss - before.loss).item() == pytest.approx(change.item(), rel=1e-5)


def test_a_student_that_is_not_there_has_no_past(backbone, data):
    supervision = selfkd.create_supervision("historical")
    method = selfkd.create_method("teskd", backbone, data, students=(1, 3), supervision=supervision)
    assert method.memories["history"].heads == ("main", "branch1", "branch3")


def test_a_detached_teacher_learns_from_its_label_alone(backbone):
    method, z, _, batch = with_golden_heads(backbone, detach_teacher=True)
    output = method(batch, START)
    output.loss.backward()
    assert output.loss.item() == pytest.approx(5.89589, rel=1e-5)
    norms = [each.grad.norm().item() for each in z]
    assert norms == pytest.approx((0.0905641, 0.242836, 0.264673, 0.321505), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"feature_weight": 0.0}, 0.2 * 9.30148 + 0.8 * 5.04449),
        ({"label_weight": 1.0, "distillation_weight": 0.0, "feature_weight": 0.0}, 9.30148),
        ({"label_weight": 0.8, "distillation_weight": 0.2}, 0.8 * 9.30148 + 0.2 * 5.04449),
    ],
)
def test_rows_of_the_papers_tables_are_weights(backbone, options, expected):
    method, _, _, batch = with_golden_heads(backbone, **options)
    assert method(batch, START).loss.item() == pytest.approx(expected, rel=1e-5)


# network: head: first logits of sample 0, sum, norm (specification, section 5.7)
WHOLE_NETWORKS = {
    "resnet18_cifar": {
        "main": ((-1.3507963, -0.67899679, 0.098194704), 1.8537637, 7.4354887),
        "branch3": ((-0.086818561, -0.089063772, 0.16271462), 2.382676, 2.152685),
        "branch2": ((-0.099404555, -0.25090919, -0.014989422), -0.14087653, 2.2548876),
        "branch1": ((-0.12339413, 0.01858986, 0.017938666), 2.2221692, 2.4067964),
    },
    "vgg16_cifar": {
        "main": ((-0.079828347, -0.056004563, -0.13590778), 4.0084446, 2.0956008),
        "branch3": ((-0.07374249, -0.096430427, -0.032540124), 3.3612586, 1.9341272),
        "branch1": ((-0.081488132, -0.23212918, -0.0106214), 0.78679354, 2.0941674),
    },
    "seresnet34_cifar": {
        "main": ((-1.6216193, -0.90698782, 0.12942191), 4.5378408, 8.9602199),
        "branch1": ((-0.11414179, 0.014501166, 0.012309347), 2.2247364, 2.4073984),
    },
    "resnext18_cifar": {
        "main": ((-1.3818576, -0.73058423, -0.025206044), -2.9230548, 7.8690757),
        "branch1": ((-0.09537541, -0.018028149, 0.02168317), 2.7575466, 2.4707097),
    },
}


def on(name, num_classes=100, input_size=32, **options):
    backbone = selfkd.create_backbone(name, num_classes, input_size=input_size)
    return selfkd.create_method("teskd", backbone, selfkd.DatasetInfo(50_000, num_classes), **options)


@pytest.mark.parametrize("name", WHOLE_NETWORKS)
def test_whole_networks(name):
    method = golden.fill_by_shape(on(name))
    with torch.no_grad():
        predicted = method.predict(golden.images())
    assert tuple(predicted) == HEADS
    for head, expected in WHOLE_NETWORKS[name].items():
        golden.assert_logits(predicted[head], expected)


def test_features_of_a_whole_network():
    method = golden.fill_by_shape(on("resnet18_cifar"))
    with torch.no_grad():
        teacher = method.backbone(golden.images())
        students, _ = method.students(teacher.stages)
    for feature, total, norm in [
        (teacher.pooled, 310.25984, 12.160184),
        (students["branch3"], 92.998482, 3.825011),
        (students["branch2"], 92.017716, 3.7843167),
        (students["branch1"], 97.429202, 3.99434),
    ]:
        assert feature.sum().item() == pytest.approx(total, rel=1e-6)
        assert feature.norm().item() == pytest.approx(norm, rel=1e-6)


# network: all parameters in training, those of the students (specification, section 4)
PARAMETERS = {
    "resnet18_cifar": (37_050_832, 25_830_700),
    "resnet34_cifar": (47_158_992, 25_830_700),
    "seresnet34_cifar": (47_328_700, 25_830_700),
    "resnext18_cifar": (48_040_144, 25_830_700),
    "resnext34_cifar": (68_252_752, 25_830_700),
    "vgg16_cifar": (24_844_752, 9_545_004),
    "vgg19_cifar": (30_157_008, 9_545_004),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_training_networks_have_the_published_sizes(name):
    method = on(name)
    total, students = PARAMETERS[name]
    assert parameters_of(method) == total
    assert parameters_of(method.students) == students


def test_the_imagenet_network_has_the_published_size():
    method = on("resnet18", num_classes=1000, input_size=224)
    assert parameters_of(method) == 38_905_312
    assert method.backbone.stage_shapes == ((64, 56, 56), (128, 28, 28), (256, 14, 14), (512, 7, 7))


# network: mega multiply-adds of backbone and students in the release's order of operations (specification, section 4)
MEGA_MACS = {
    "resnet18_cifar": 2040.4,
    "resnet34_cifar": 2644.4,
    "seresnet34_cifar": 2644.5,
    "resnext18_cifar": 2587.8,
    "resnext34_cifar": 3795.7,
    "vgg16_cifar": 412.8,
    "vgg19_cifar": 497.7,
}


def mega_macs(method):
    return multiply_adds(method.predict, method.backbone.input_size, "meta") / 1e6


@pytest.mark.parametrize("name", MEGA_MACS)
def test_the_literal_order_costs_what_was_published_and_ours_less(name):
    with torch.device("meta"):
        method = on(name).eval()
    ours = mega_macs(method)
    literal(method.students)
    assert mega_macs(method) == pytest.approx(MEGA_MACS[name], abs=0.055)
    # Three 1x1 convolutions run on a quarter of the pixels.
    sides = [shape[1] for shape in method.backbone.stage_shapes[:-1]]
    saved = sum(0.75 * 512 * 512 * side * side / 1e6 for side in sides)
    assert ours == pytest.approx(MEGA_MACS[name] - saved, abs=0.055)


def test_the_imagenet_network_costs_what_was_published():
    with torch.device("meta"):
        method = on("resnet18", num_classes=1000, input_size=224).eval()
    literal(method.students)
    assert mega_macs(method) == pytest.approx(6362.8, abs=0.055)


def test_the_papers_width_makes_a_bottleneck_network_huge_and_the_option_makes_it_fit():
    with torch.device("meta"):
        backbone = selfkd.create_backbone("resnet50_cifar", 100)
        data = selfkd.DatasetInfo(50_000, 100)
        papers = selfkd.create_method("teskd", backbone, data)
        narrow = selfkd.create_method("teskd", backbone, data, student_width=512)
    assert parameters_of(papers) == pytest.approx(434.9e6, abs=0.05e6)
    assert parameters_of(narrow) < 60e6


def test_every_part_learns(backbone, batch, data):
    method = selfkd.create_method("teskd", backbone, data)
    method(batch, START).loss.backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in method.parameters())


def test_the_students_reach_the_backbone_though_the_teacher_is_detached(backbone, batch, data):
    method = selfkd.create_method("teskd", backbone, data, detach_teacher=True)
    method(batch, START).terms["distillation"].backward()
    assert backbone.network.conv1.weight.grad.abs().sum() > 0
    assert backbone.network.fc.weight.grad is None


@pytest.mark.parametrize(("students", "heads"), [((3,), ("branch3",)), ((2, 3), ("branch2", "branch3"))])
def test_students_can_be_left_out(backbone, batch, data, students, heads):
    method = selfkd.create_method("teskd", backbone, data, students=students)
    assert tuple(method(batch, START).logits) == ("main", *heads)


def test_the_students_start_as_the_networks_family_does():
    method = on("vgg16_cifar", num_classes=10)
    student = method.students.students["branch2"]
    assert student.classifier.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert student.convolutions[1][0].bias.abs().max() == 0
    assert student.convolutions[1][0].weight.std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.02)


def test_a_network_without_a_pyramid_is_refused_with_what_works(data):
    staged = selfkd.create_backbone("vit_tiny_patch16_224", 10)
    with pytest.raises(
        BackboneError,
        match="TESKD needs stages that halve; .* 14x14, 14x14, .* work on it: plain, .*dtskd, loth",
    ):
        selfkd.create_method("teskd", staged, data)


def test_one_sample_is_refused_only_where_nothing_else_is_normalised_over(backbone, batch, data):
    one = selfkd.Batch(batch.images[:1], batch.labels[:1])
    assert torch.isfinite(selfkd.create_method("teskd", backbone, data)(one, START).loss)
    points = selfkd.create_backbone("resnet18_cifar", 10, width=8, input_size=8)
    with pytest.raises(BatchError, match="at least 2 samples"):
        selfkd.create_method("teskd", points, data)(selfkd.Batch(batch.images[:1, :, :8, :8], batch.labels[:1]), START)


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("temperature", 0.0, "> 0"),
        ("temperature", 1e308, "at most 10000"),
        ("label_weight", -1.0, ">= 0"),
        ("distillation_weight", float("nan"), ">= 0"),
        ("feature_weight", -1e-7, ">= 0"),
        ("students", (), "one or more of 1, 2, 3"),
        ("students", (0, 1), "one or more of 1, 2, 3"),
        ("students", (1, 1), "each at most once"),
        ("fusion", "sum", "add, concat, mixed, none"),
        ("student_convolutions", 3, "1 or 2"),
        ("student_width", 0, ">= 1"),
        ("epsilon", -1.0, ">= 0"),
    ],
)
def test_values_out_of_range_are_refused(backbone, data, option, value, allowed):
    with pytest.raises(OptionError, match=f"{option}=.*{allowed}"):
        selfkd.create_method("teskd", backbone, data, **{option: value})


def test_weights_with_which_nothing_would_be_learnt_are_refused(backbone, data):
    weights = dict.fromkeys(("label_weight", "distillation_weight", "feature_weight"), 0.0)
    with pytest.raises(OptionError, match="label_weight=0.0 .* distillation_weight and feature_weight are 0"):
        selfkd.create_method("teskd", backbone, data, **weights)
