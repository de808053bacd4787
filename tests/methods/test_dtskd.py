import pytest
import torch

import golden
import golden_steps
import selfkd
from operation_count import mega_operations, multiply_adds, parameters_of
from selfkd.errors import BatchError, OptionError

HEADS = ("main", "branch1", "branch2", "branch3")
START = selfkd.Progress(0, 1)

# beta: historical loss, heads' parts, total, gradient norms of z0 to z3 (specification, section 5.4)
TOTALS = {
    0.9: (
        10.3769,
        (1.35675, 1.99900, 1.76816, 2.53945),
        6.11096,
        (0.656394, 0.238996, 0.260515, 0.317940),
    ),
    0.45: (
        5.69783,
        (0.779983, 0.938745, 0.940675, 1.47846),
        5.17516,
        (0.645015, 0.225405, 0.245691, 0.305047),
    ),
}


def with_golden_heads(backbone, **options):
    """A real DTSKD whose heads give the golden logits and whose history holds the golden predictions."""
    step = golden_steps.dtskd(backbone, **options)
    return step.method, list(step.logits.values()), step.batch


@pytest.mark.parametrize("beta", TOTALS)
def test_golden_totals_and_gradients(backbone, beta):
    historical, _, total, norms = TOTALS[beta]
    method, z, batch = with_golden_heads(backbone, beta_max=beta)
    output = method(batch, selfkd.Progress(1, 300))
    output.loss.backward()
    assert output.terms["historical"].item() == pytest.approx(historical, rel=1e-5)
    assert output.terms["structural"].item() == pytest.approx(5.04449, rel=1e-5)
    assert output.loss.item() == pytest.approx(total, rel=1e-5)
    assert [each.grad.norm().item() for each in z] == pytest.approx(norms, rel=1e-5)


@pytest.mark.parametrize("beta", TOTALS)
@pytest.mark.parametrize("position", range(4))
def test_golden_historical_loss_of_each_head(backbone, beta, position):
    alone = tuple(float(i == position) for i in range(4))
    method, _, batch = with_golden_heads(backbone, beta_max=beta, head_weights=alone)
    output = method(batch, selfkd.Progress(1, 300))
    assert output.terms["historical"].item() == pytest.approx(TOTALS[beta][1][position], rel=1e-5)


def test_a_detached_teacher_gets_no_structural_gradient(backbone):
    options = {"beta_max": 0.9, "historical_weight": 0.0}
    method, z, batch = with_golden_heads(backbone, detach_teacher=True, **options)
    method(batch, selfkd.Progress(1, 300)).loss.backward()
    assert z[0].grad.abs().max() == 0
    method, z, batch = with_golden_heads(backbone, **options)
    method(batch, selfkd.Progress(1, 300)).loss.backward()
    assert z[0].grad.abs().max() > 0


# network: options; head: first logits of sample 0, sum, norm (specification, section 5.7)
WHOLE_NETWORKS = {
    "resnet18_cifar": (
        {},
        {
            "main": ((-1.3507963, -0.67899679, 0.098194704), 1.8537637, 7.4354887),
            "branch1": ((-0.19374052, -0.09416216, -0.24136989), -3.4496841, 3.5450952),
            "branch2": ((-0.2080489, -0.3369843, -0.27188884), -5.5876223, 3.8938593),
            "branch3": ((-0.025379687, -0.35544604, -0.33366591), -2.8333318, 4.3152417),
        },
    ),
    "vgg16_cifar": (
        {},
        {
            "main": ((-0.079828347, -0.056004563, -0.13590778), 4.0084446, 2.0956008),
            "branch1": ((-0.19113709, -0.18626668, -0.24410834), -4.5314809, 2.8133811),
            "branch3": ((-0.25977514, -0.26883757, -0.15498853), -3.0957043, 2.7615294),
        },
    ),
    "shufflenetv2_cifar": (
        {"lateral": "convolved"},
        {
            "main": ((-0.098995893, -0.17541796, -0.12557778), 0.54721646, 1.9558688),
            "branch1": ((-0.12030226, 0.037775793, -0.18729679), 1.8051974, 2.76918),
            "branch3": ((-0.080937431, 0.094616242, -0.19279624), 0.50983323, 2.6671992),
        },
    ),
}


def on(name, **options):
    backbone = selfkd.create_backbone(name, 100)
    return selfkd.create_method("dtskd", backbone, selfkd.DatasetInfo(50_000, 100), **options)


@pytest.mark.parametrize("name", WHOLE_NETWORKS)
def test_whole_networks(name):
    options, heads = WHOLE_NETWORKS[name]
    method = golden.fill_by_shape(on(name, **options))
    with torch.no_grad():
        predicted = method.predict(golden.images())
    assert tuple(predicted) == HEADS
    for head, expected in heads.items():
        golden.assert_logits(predicted[head], expected)


# network: options, all parameters in training, those of the branches, mega multiply-adds (specification, section 4)
TRAINING = {
    "resnet18_cifar": ({}, 13_971_920, 2_751_788, 558.2),
    "resnet34_cifar": ({}, 24_080_080, 2_751_788, 1162.2),
    "resnext18_cifar": ({}, 24_961_232, 2_751_788, 1105.6),
    "vgg16_cifar": ({}, 18_280_912, 2_981_164, 316.7),
    "shufflenetv2_cifar": ({"lateral": "convolved"}, 15_107_372, 13_746_476, 109.8),
}


@pytest.mark.parametrize("name", TRAINING)
def test_training_networks_have_the_published_sizes(name):
    options, total, branches, mega_macs = TRAINING[name]
    method = on(name, **options).eval()
    assert parameters_of(method) == total
    assert parameters_of(method.branches) == branches
    assert multiply_adds(method.predict) / 1e6 == pytest.approx(mega_macs, abs=0.055)


# Table 2, by ptflops, which takes in all other layers too: the method costs what the network alone does, to two digits.
@pytest.mark.parametrize(
    ("name", "published"), [("vgg16_cifar", 0.32), ("resnet18_cifar", 0.56), ("resnext18_cifar", 1.11)]
)
def test_counted_as_ptflops_counts_operations_are_those_of_the_papers_table(name, published):
    with torch.device("meta"):
        method = on(name).eval()
    assert round(mega_operations(method.predict) / 1e3, 2) == published


def test_the_history_changes_from_epoch_to_epoch_in_one_process(backbone, batch, data):
    """The released program writes it only under a flag that it never sets (specification, D-HIST)."""
    method = selfkd.create_method("dtskd", backbone, data)
    optimizer = torch.optim.SGD(method.parameters(), 0.05)
    targets, remembered = [], []
    for epoch in range(3):
        progress = selfkd.Progress(epoch, 3)
        method.begin_epoch(progress)
        output = method(batch, progress)
        targets.append({head: method.historical_teacher.target(head, batch) for head in HEADS})
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        method.after_step(batch, output)
        method.end_epoch(progress)
        remembered.append(method.memories["history"].read(batch.indices, batch.labels))
        for head in HEADS:
            assert torch.allclose(remembered[-1][head], output.logits[head].detach().softmax(1), atol=1e-6)
    for head in HEADS:
        one_hot = torch.nn.functional.one_hot(batch.labels, 10).float()
        assert torch.equal(targets[0][head], one_hot), "epoch 0 knows the labels only"
        assert not torch.equal(targets[1][head], one_hot)
        assert not torch.equal(remembered[0][head], remembered[1][head])
        assert not torch.equal(remembered[1][head], remembered[2][head])
    beta = method.historical_teacher.label_share(selfkd.Progress(1, 3))
    assert torch.allclose(targets[1]["main"], beta * one_hot + (1 - beta) * remembered[0]["main"])


def test_every_part_learns(backbone, batch, data):
    method = selfkd.create_method("dtskd", backbone, data)
    method.begin_epoch(START)
    method(batch, START).loss.backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in method.parameters())


@pytest.mark.parametrize("fusion", ["mixed", "concat", "add"])
def test_fusions_differ_only_in_the_fuser(backbone, batch, data, fusion):
    method = selfkd.create_method("dtskd", backbone, data, fusion=fusion)
    method.begin_epoch(START)
    output = method(batch, START)
    assert tuple(output.logits) == HEADS
    fusers = parameters_of(method.branches.fusions)
    width = backbone.num_features
    assert fusers == (0 if fusion == "add" else 3 * (2 * width * width + 2 * width))


def test_direct_branches_know_only_their_own_stage(backbone, batch, data):
    method = selfkd.create_method("dtskd", backbone, data, fusion="none")
    features = backbone(batch.images)
    logits = method.branches(features.stages[:-1], features.pooled)
    assert tuple(logits) == HEADS[1:]
    maps = (*features.stages[:-1], features.pooled)
    reached = torch.autograd.grad(logits["branch1"].sum(), maps, allow_unused=True)
    assert [each is not None for each in reached] == [True, False, False, False]
    # 1x1 convolution without bias, batch normalisation, linear classifier, at widths 8, 16, 32 to 64
    sizes = [channels * 64 + 2 * 64 + 64 * 10 + 10 for channels in (8, 16, 32)]
    assert parameters_of(method.branches) == sum(sizes)
    with pytest.raises(OptionError, match="lateral='convolved' .*fusion=none"):
        selfkd.create_method("dtskd", backbone, data, fusion="none", lateral="convolved")


@pytest.mark.parametrize("chosen", [(1,), (2,), (3,), (1, 2, 3)])
def test_the_structural_teacher_teaches_whom_it_is_told(backbone, chosen):
    method, z, batch = with_golden_heads(backbone, structural_branches=chosen, historical_weight=0.0)
    method(batch, selfkd.Progress(1, 300)).loss.backward()
    taught = [each.grad is not None and bool(each.grad.abs().max() > 0) for each in z[1:]]
    assert taught == [number in chosen for number in (1, 2, 3)]


def test_the_branches_start_as_the_networks_family_does():
    block = on("vgg16_cifar").branches.top_down[0][0]
    assert block.weight.std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.02)
    assert on("vgg16_cifar").branches.classifiers[0].weight.std().item() == pytest.approx(0.01, rel=0.05)


def test_only_the_plain_network_remains(backbone, data):
    keys = list(backbone.network.state_dict())
    method = selfkd.create_method("dtskd", backbone, data)
    assert method.deployed() is backbone.network
    assert list(method.deployed().state_dict()) == keys
    assert not any("history" in key for key in method.state_dict())


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("temperature", 0.0, "> 0"),
        ("temperature", 1e308, "at most 10000"),
        ("historical_weight", -1.0, ">= 0"),
        ("structural_weight", float("nan"), "finite"),
        ("beta_max", 1.5, r"\[0, 1\]"),
        ("beta_min", -0.1, r"\[0, 1\]"),
        ("head_weights", (1.0, 1.0), "4 finite numbers.*main, branch1, branch2, branch3"),
        ("decay", "cosin", "cosine, fixed, linear"),
        ("fusion", "sum", "add, concat, mixed, none"),
        ("lateral", "pool", "convolved, pooled"),
        ("structural_branches", (0,), "one or more of 1, 2, 3"),
        ("epsilon", -1e-7, ">= 0"),
    ],
)
def test_values_out_of_range_are_refused(backbone, data, option, value, allowed):
    with pytest.raises(OptionError, match=f"{option}=.*{allowed}"):
        selfkd.create_method("dtskd", backbone, data, **{option: value})


@pytest.mark.parametrize(
    "options",
    [
        {"historical_weight": 0.0, "structural_weight": 0.0},
        {"historical_weight": 0.2, "structural_weight": 0.0, "head_weights": (0, 0, 0, 0)},
    ],
)
def test_weights_with_which_nothing_would_be_learnt_are_refused(backbone, data, options):
    with pytest.raises(OptionError, match="structural_weight"):
        selfkd.create_method("dtskd", backbone, data, **options)


def test_a_batch_of_one_is_refused(backbone, batch, data):
    method = selfkd.create_method("dtskd", backbone, data)
    method.begin_epoch(START)
    with pytest.raises(BatchError, match="at least 2 samples"):
        method(selfkd.Batch(batch.images[:1], batch.labels[:1], batch.indices[:1]), START)
