import inspect
import typing

import pytest
import timm
import torch
import torchvision
from torch.nn.functional import cross_entropy

import golden
import golden_steps
import selfkd
from operation_count import multiply_adds, parameters_of
from selfkd.branches.exit_chains import BLOCKS
from selfkd.branches.exit_fusion import FUSIONS
from selfkd.errors import BackboneError, BatchError, OptionError
from selfkd.methods.loth import LOTH

EXITS = ("branch1", "branch2", "branch3", "main")
HEADS = ("main", "branch1", "branch2", "branch3", "fusion")
START = selfkd.Progress(0, 1)
GBN = {"block": "gbn"}
MOBILENETV2 = {"block": "gbn", "chain_channels": (256, 512)}


def on(name, num_classes=100, **options):
    """LOTH on one of the poster's networks at 32x32."""
    backbone = selfkd.create_backbone(name, num_classes)
    return selfkd.create_method("loth", backbone, selfkd.DatasetInfo(50_000, num_classes), **options)


def with_golden_heads(backbone, **options):
    """A real LOTH whose heads give the golden logits."""
    step = golden_steps.loth(backbone, **options)
    return step.method, step.logits, step.batch


def test_golden_loss_and_gradients(backbone):
    method, z, batch = with_golden_heads(backbone)
    output = method(batch, START)
    output.loss.backward()
    assert output.terms["fusion"].item() == pytest.approx(4.66195, rel=3e-6)
    assert output.terms["exits"].item() == pytest.approx(17.4242, rel=3e-6)
    assert output.loss.item() == pytest.approx(22.0862, rel=3e-6)
    norms = {"branch1": 0.558913, "branch2": 0.569682, "branch3": 0.604030, "main": 0.550289, "fusion": 0.654593}
    for head, norm in norms.items():
        assert z[head].grad.norm().item() == pytest.approx(norm, rel=3e-6)


def test_a_supervision_replaces_the_label_in_five_cross_entropies_and_keeps_their_weights(backbone):
    method, z, batch = with_golden_heads(backbone)
    smoothed, _, _ = with_golden_heads(backbone, supervision=selfkd.create_supervision("smoothed", smoothing=0.3))

    def change(head):
        hard, soft = (cross_entropy(z[head], batch.labels, label_smoothing=share) for share in (0.0, 0.3))
        return (soft - hard).item()

    before, after = method(batch, START).terms, smoothed(batch, START).terms
    assert (after["fusion"] - before["fusion"]).item() == pytest.approx(change("fusion"), rel=1e-5)
    weighted = sum((2 - 1.15 ** (4 - i)) * change(head) for i, head in enumerate(EXITS))
    assert (after["exits"] - before["exits"]).item() == pytest.approx(weighted, rel=1e-5)


def test_golden_divergence_of_the_virtual_teacher(backbone):
    method, z, _ = with_golden_heads(backbone)
    mean = torch.stack([z[head] for head in EXITS]).mean(dim=0).detach()
    divergence = method._divergence(z["fusion"], mean)
    divergence.backward()
    assert divergence.item() == pytest.approx(1.66271, rel=3e-6)
    assert z["fusion"].grad.norm().item() == pytest.approx(0.276879, rel=3e-6)


@pytest.mark.parametrize(
    ("head", "divergence"),
    [("branch1", 1.95983), ("branch2", 2.21083), ("branch3", 2.25958), ("main", 2.18793)],
)
def test_golden_divergence_of_each_exit(backbone, head, divergence):
    method, z, _ = with_golden_heads(backbone)
    assert method._divergence(z[head], z["fusion"].detach()).item() == pytest.approx(divergence, rel=3e-6)


def test_shallow_exits_rely_most_on_the_teacher(backbone, data):
    weights = selfkd.create_method("loth", backbone, data).teacher_weights
    assert [weights[head] for head in EXITS] == pytest.approx([1.749006, 1.520875, 1.3225, 1.15], abs=5e-7)
    alike = selfkd.create_method("loth", backbone, data, alpha=1).teacher_weights
    assert set(alike.values()) == {1}


def test_nobody_is_moved_towards_its_student(backbone):
    method, z, batch = with_golden_heads(backbone)
    terms = method(batch, START).terms
    for_exits = torch.autograd.grad(terms["exits"], list(z.values()), allow_unused=True)
    assert [gradient is not None for gradient in for_exits] == [head != "fusion" for head in z]
    for_fusion = torch.autograd.grad(terms["fusion"], list(z.values()), allow_unused=True)
    assert [gradient is not None for gradient in for_fusion] == [head == "fusion" for head in z]


def test_the_virtual_teachers_loss_trains_the_network_but_no_classifier_of_an_exit(backbone, batch, data):
    method = selfkd.create_method("loth", backbone, data)
    method(batch, START).terms["fusion"].backward()
    learning = {name for name, parameter in method.named_parameters() if parameter.grad is not None}
    assert all(parameter.grad is None for each in method.chains.exits for parameter in each.classifier.parameters())
    assert backbone.network.fc.weight.grad is None
    assert backbone.network.conv1.weight.grad.abs().sum() > 0
    idle = set(dict(method.named_parameters())) - learning
    assert all("classifier" in name or ".fc." in name for name in idle)
    assert not any(name.startswith("fusion.") for name in idle)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("block", BLOCKS)
def test_every_part_learns(backbone, batch, data, block, fusion):
    method = selfkd.create_method("loth", backbone, data, block=block, fusion=fusion)
    output = method(batch, START)
    output.loss.backward()
    assert tuple(output.logits) == HEADS
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in method.parameters())


def test_the_virtual_teacher_has_its_own_weight_decay(backbone, data):
    method = selfkd.create_method("loth", backbone, data, fusion_weight_decay=0.25)
    optimizer = torch.optim.SGD(method.parameter_groups(), lr=0.1, weight_decay=0.5)
    decays = {id(each): group["weight_decay"] for group in optimizer.param_groups for each in group["params"]}
    assert all(decays[id(each)] == 0.25 for each in method.fusion.parameters())
    assert all(decays[id(each)] == 0.5 for part in (backbone, method.chains) for each in part.parameters())


def test_the_names_in_the_signature_are_those_of_the_tables():
    hints = typing.get_type_hints(LOTH.__init__)
    assert typing.get_args(hints["block"]) == tuple(BLOCKS)
    assert typing.get_args(hints["fusion"]) == tuple(FUSIONS)
    assert inspect.signature(LOTH).parameters["fusion"].default == next(iter(FUSIONS))


def test_soft_labels_are_taken(backbone, batch, data):
    method = selfkd.create_method("loth", backbone, data).eval()
    one_hot = torch.nn.functional.one_hot(batch.labels, 10).float()
    hard, soft = method(batch, START), method(selfkd.Batch(batch.images, one_hot), START)
    assert torch.allclose(hard.loss, soft.loss)


def test_one_sample_trains_where_maps_have_several_places(backbone, batch, data):
    one = selfkd.Batch(batch.images[:1], batch.labels[:1])
    assert torch.isfinite(selfkd.create_method("loth", backbone, data)(one, START).loss)
    for fusion in ("pooled_concat", "sample_attention"):
        method = selfkd.create_method("loth", backbone, data, fusion=fusion)
        with pytest.raises(BatchError, match="at least 2 samples"):
            method(one, START)
        assert torch.isfinite(method.eval()(one, START).loss)


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("alpha", 0.0, "> 0"),
        ("alpha", float("inf"), "finite"),
        ("alpha", 1.2, r"above 2\^\(1/4\).*away from the labels"),
        ("temperature", 0.0, "> 0"),
        ("temperature", 1e308, "at most 10000"),
        ("block", "bottle", "bn, dsc, gbn"),
        ("fusion", "eml", "concat, deca"),
        ("chain_channels", (256,), "first two blocks"),
        ("chain_channels", (256, 0), ">= 1"),
        ("fusion_weight_decay", -1e-5, ">= 0"),
        ("epsilon", float("nan"), ">= 0"),
    ],
)
def test_values_out_of_range_are_refused(backbone, data, option, value, allowed):
    with pytest.raises(OptionError, match=rf"{option}=.*{allowed}"):
        selfkd.create_method("loth", backbone, data, **{option: value})


def test_maps_that_neither_halve_nor_stay_are_refused():
    network = torchvision.models.resnet18(num_classes=10)
    staged = selfkd.stage(network, ["bn1", "layer1", "layer3", "layer4"], input_size=64)
    with pytest.raises(
        BackboneError,
        match=r"LOTH needs .* of the network, ResNet, have 32x32, 16x16, 4x4, 2x2, .*plain, .*dtskd, kd, dml$",
    ):
        selfkd.create_method("loth", staged, selfkd.DatasetInfo(4, 10))


def test_sizes_that_cannot_be_halved_evenly_work(batch, data):
    odd = selfkd.create_backbone("resnet18_cifar", 10, width=8, input_size=(3, 13, 18))
    method = selfkd.create_method("loth", odd, data)
    images = torch.randn(4, 3, 13, 18)
    assert torch.isfinite(method(selfkd.Batch(images, batch.labels), START).loss)


def test_the_chains_get_the_initialisation_of_the_networks_family(backbone, data):
    backbone.network.initialize_branches = lambda branches: [
        torch.nn.init.constant_(parameter, 0.5) for parameter in branches.parameters()
    ]
    method = selfkd.create_method("loth", backbone, data)
    assert all((parameter == 0.5).all() for parameter in method.chains.parameters())
    assert not all((parameter == 0.5).all() for parameter in method.fusion.parameters())


def test_exits_are_networks_of_their_own(data):
    torch.manual_seed(0)
    staged = selfkd.stage(timm.create_model("resnet18", num_classes=10), input_size=64)
    method = selfkd.create_method("loth", staged, data)
    images = torch.randn(2, 3, 64, 64)
    method(selfkd.Batch(images, torch.tensor([1, 3])), START)  # moves the running statistics
    exits = method.exits()
    assert tuple(exits) == HEADS[:-1]
    assert exits["main"] is staged.network
    trained = set(map(id, method.parameters()))
    for head, network in exits.items():
        assert set(map(id, network.parameters())) <= trained
        network.eval()
        assert method.chains.training
        with torch.no_grad():
            logits = network(images)
        method.eval()
        with torch.no_grad():
            assert torch.allclose(logits, method.predict(images)[head], atol=1e-6)
        method.train()
    sizes = [parameters_of(exits[head]) for head in EXITS]
    assert all(size < parameters_of(staged, method.chains) for size in sizes)


def test_a_network_that_cannot_be_cut_says_so(data):
    staged = selfkd.stage(
        torchvision.models.resnet18(num_classes=10), ["layer1", "layer2", "layer3", "layer4"], input_size=64
    )
    method = selfkd.create_method("loth", staged, data)
    with pytest.raises(BackboneError, match="cannot be cut"):
        method.exits()
    assert method.deployed() is staged.network


# network: options, parameters of backbone and chains, of the fusion, mega multiply-adds (specification, section 4)
TRAINING = {
    "resnet18_cifar": ({}, 21_192_912, 1_102_700, 878.1),
    "resnet34_cifar": ({}, 31_301_072, 1_102_700, 1482.1),
    "vgg16_cifar_loth": ({}, 30_310_224, 1_101_020, 513.5),
    "vgg19_cifar_loth": ({}, 35_621_200, 1_101_020, 598.4),
    "mobilenetv1_cifar": (GBN, 9_285_584, 4_300_652, 554.2),
    "mobilenetv2_cifar": (MOBILENETV2, 9_905_296, 6_686_060, 469.2),
    "shufflenetv1_cifar": (GBN, 6_263_368, 3_786_220, 351.3),
    "shufflenetv2_cifar_loth": (GBN, 5_759_320, 4_300_652, 242.5),
}
FUSION_MEGA_MACS = {
    "resnet18_cifar": 20.5,
    "vgg16_cifar_loth": 4.5,
    "mobilenetv1_cifar": 74.6,
    "mobilenetv2_cifar": 114.2,
}


@pytest.mark.parametrize("name", TRAINING)
def test_training_costs_what_was_measured(name):
    options, parameters, fusion_parameters, mega_macs = TRAINING[name]
    method = on(name, **options).eval()
    assert parameters_of(method.backbone, method.chains) == parameters
    assert parameters_of(method.fusion) == fusion_parameters
    assert multiply_adds(method.predict) / 1e6 == pytest.approx(mega_macs, abs=0.055)


@pytest.mark.parametrize("name", FUSION_MEGA_MACS)
def test_the_virtual_teacher_costs_what_was_measured(name):
    method = on(name, **TRAINING[name][0]).eval()
    maps = [torch.zeros(1, *method.backbone.final_shape)] * 4
    assert multiply_adds(lambda _: method.fusion(maps)) / 1e6 == pytest.approx(FUSION_MEGA_MACS[name], abs=0.055)


# Fig. 4: network: parameters of backbone and chains with each block (specification, section 3.6)
FIGURE_4 = {
    "resnet18_cifar": {"bn": 21_192_912, "gbn": 12_807_504, "dsc": 11_857_296},
    "vgg16_cifar_loth": {"bn": 30_310_224, "gbn": 17_949_264, "dsc": 16_560_336},
    "mobilenetv1_cifar": {"bn": 42_866_384, "gbn": 9_285_584},
    "shufflenetv1_cifar": {"bn": 35_775_448, "gbn": 6_263_368, "dsc": 2_948_512},
}


@pytest.mark.parametrize(("name", "block"), [(name, block) for name, blocks in FIGURE_4.items() for block in blocks])
def test_blocks_have_the_sizes_of_figure_4(name, block):
    method = on(name, block=block)
    assert parameters_of(method.backbone, method.chains) == FIGURE_4[name][block]


# network: parameters of exits 1 to 4 at 100 and at 200 classes (specification, section 4)
EXIT_PARAMETERS = {
    "vgg16_cifar_loth": {
        100: (6_643_748, 7_430_180, 10_575_908, 15_295_524),
        200: (6_695_048, 7_481_480, 10_627_208, 15_346_824),
    },
    "vgg19_cifar_loth": {
        100: (6_643_748, 8_020_516, 13_526_564, 20_606_500),
        200: (6_695_048, 8_071_816, 13_577_864, 20_657_800),
    },
    "resnet18_cifar": {
        100: (3_819_172, 4_171_940, 5_581_988, 11_220_132),
        200: (3_870_472, 4_223_240, 5_633_288, 11_271_432),
    },
    "resnet34_cifar": {
        100: (3_893_156, 4_836_772, 10_969_508, 21_328_292),
        200: (3_944_456, 4_888_072, 11_020_808, 21_379_592),
    },
    "mobilenetv1_cifar": {
        100: (2_224_420, 2_225_828, 3_303_844, 3_309_476),
        200: (2_326_920, 2_328_328, 3_406_344, 3_411_976),
    },
    "mobilenetv2_cifar": {
        100: (2_933_268, 2_782_756, 2_451_108, 2_351_972),
        200: (3_061_368, 2_910_856, 2_579_208, 2_480_072),
    },
    "shufflenetv1_cifar": {
        100: (1_913_380, 1_886_428, 1_846_828, 1_012_108),
        200: (2_009_480, 1_982_528, 1_942_928, 1_108_208),
    },
    "shufflenetv2_cifar_loth": {
        100: (1_506_920, 1_516_612, 1_679_592, 1_360_896),
        200: (1_609_420, 1_619_112, 1_782_092, 1_463_396),
    },
}


@pytest.mark.parametrize("num_classes", [100, 200])
@pytest.mark.parametrize("name", EXIT_PARAMETERS)
def test_exits_have_the_published_sizes(name, num_classes):
    method = on(name, num_classes, **TRAINING[name][0])
    exits = method.exits()
    assert tuple(parameters_of(exits[head]) for head in EXITS) == EXIT_PARAMETERS[name][num_classes]


# network: head: first logits of sample 0, sum, norm (specification, section 5.7)
WHOLE_NETWORKS = {
    "resnet18_cifar": {
        "branch1": ((-0.020456755, -0.063926147, -0.048581343), 1.4602713, 1.8133147),
        "branch2": ((-0.02210858, -0.081988289, -0.063400167), 1.3604488, 1.8542808),
        "branch3": ((-0.029311372, -0.096430342, -0.039922197), -0.82599021, 2.2642966),
        "main": ((-1.3507963, -0.67899679, 0.098194704), 1.8537637, 7.4354887),
        "fusion": ((-0.043623515, -0.085496779, 0.025876523), -0.76555678, 1.8726524),
    },
    "vgg16_cifar_loth": {
        "branch1": ((-0.070849939, -0.046779743, -0.0092135668), 1.4925613, 1.7789463),
        "main": ((-0.041309227, -0.066600114, -0.092915284), 3.2106817, 1.429965),
        "fusion": ((-0.037231255, -0.13422326, 0.039908835), 1.7447776, 1.4845645),
    },
    "mobilenetv1_cifar": {
        "branch1": ((-0.19686884, -0.13903975, -0.091689452), -0.70014484, 1.8029662),
        "main": ((-0.20931154, -0.12499168, -0.079363), -0.22471443, 1.7912313),
        "fusion": ((-0.19740078, -0.040603659, -0.16186821), 0.38232634, 1.6632274),
    },
    "mobilenetv2_cifar": {
        "branch1": ((-0.23662499, -0.12612388, 0.0082101097), 0.62400377, 1.8862622),
        "main": ((-0.26176257, -0.19863242, 0.20454817), -1.6804747, 1.9290975),
        "fusion": ((-0.15609412, -0.12927475, 0.1288255), 0.94087799, 1.5552118),
    },
    "shufflenetv1_cifar": {
        "branch1": ((-0.18779337, -0.14084079, 0.025114608), 1.2331303, 1.8417372),
        "main": ((-1.2487521, 0.63418612, -0.30266147), 16.113959, 20.448986),
        "fusion": ((-0.39008998, -0.26851827, -0.13288153), 3.8442087, 2.9527808),
    },
    "shufflenetv2_cifar_loth": {
        "branch1": ((-0.18244071, -0.12546275, -0.095086633), 0.23082682, 1.8296097),
        "main": ((-0.099049235, -0.17525999, -0.12551285), 0.55237576, 1.9557206),
        "fusion": ((-0.18139347, -0.022159552, -0.11744628), 0.35642715, 1.6825522),
    },
}


@pytest.mark.parametrize("name", WHOLE_NETWORKS)
def test_whole_networks(name):
    method = golden.fill_by_shape(on(name, **TRAINING[name][0]))
    with torch.no_grad():
        predicted = method.predict(golden.images())
    assert tuple(predicted) == HEADS
    for head, expected in WHOLE_NETWORKS[name].items():
        golden.assert_logits(predicted[head], expected)
