import math

import pytest
import torch
import torchvision
from torch.nn.functional import cross_entropy

import selfkd
from operation_count import multiply_adds, parameters_of
from selfkd.errors import BackboneError, OptionError

START = selfkd.Progress(0, 1)


@pytest.fixture
def method(backbone, data):
    return selfkd.create_method("frskd", backbone, data)


def gradients(value, tensors):
    found = torch.autograd.grad(value, list(tensors), retain_graph=True, allow_unused=True)
    return [gradient is not None and bool(gradient.abs().sum() > 0) for gradient in found]


def maps_of(method, images):
    features = method.backbone(images)
    return [*features.stages[:3], features.final], features.logits


def test_the_loss_is_the_papers_by_a_loop_over_samples(method, batch):
    method.double()
    batch = selfkd.Batch(batch.images.double(), batch.labels)
    output = method(batch, START)
    network_maps, logits = maps_of(method, batch.images)
    refined_maps, teacher_logits = method.self_teacher(network_maps)

    label = fusion = divergence = attention = 0.0
    for n, y in enumerate(batch.labels.tolist()):
        label -= logits[n].log_softmax(0)[y].item() / 4
        fusion -= teacher_logits[n].log_softmax(0)[y].item() / 4
        p_t, p_s = ((each[n] / 4).softmax(0).tolist() for each in (teacher_logits, logits))
        divergence += 16 / 4 * sum(t * math.log(t / s) for t, s in zip(p_t, p_s, strict=True))
        for f, t in zip(network_maps, refined_maps, strict=True):
            f_att, t_att = (each[n].pow(2).sum(0).flatten() for each in (f, t))
            f_att, t_att = f_att / f_att.pow(2).sum().sqrt(), t_att / t_att.pow(2).sum().sqrt()
            attention += ((f_att - t_att) ** 2).sum().item() / (4 * f_att.numel())

    expected = {"labels": label + fusion, "distillation": divergence, "attention": attention}
    assert {name: term.item() for name, term in output.terms.items()} == pytest.approx(expected, rel=1e-7)
    assert output.loss.item() == pytest.approx(label + fusion + 2 * divergence + 100 * attention, rel=1e-7)
    assert tuple(output.logits) == ("main", "fusion")


def test_the_weights_and_the_temperature_are_the_options(backbone, batch, data, method):
    other = selfkd.create_method(
        "frskd", backbone, data, distillation_weight=0.5, attention_weight=3.0, temperature=2.0
    )
    other.load_state_dict(method.state_dict())
    terms = other(batch, START).terms
    expected = terms["labels"] + 0.5 * terms["distillation"] + 3 * terms["attention"]
    torch.testing.assert_close(other(batch, START).loss, expected)
    output = method(batch, START)
    softer = selfkd.losses.softened_kl(output.logits["main"], output.logits["fusion"], 2.0)
    torch.testing.assert_close(terms["distillation"], softer)


def test_the_self_teacher_learns_from_the_labels_alone(method, batch):
    output = method(batch, START)
    own = list(method.self_teacher.parameters())
    assert all(gradients(output.terms["labels"], own))
    others = (
        method.label_loss("main", output.logits["main"], batch),
        *map(output.terms.get, ("distillation", "attention")),
    )
    for other in others:
        assert not any(gradients(other, own))


def test_its_labels_train_the_network_but_not_the_networks_classifier(method, batch):
    """The maps enter the self-teacher with their gradient."""
    names, parameters = zip(*method.backbone.network.named_parameters(), strict=True)
    output = method(batch, START)
    terms = output.terms
    learning = gradients(method.label_loss("fusion", output.logits["fusion"], batch), parameters)
    assert [name for name, moved in zip(names, learning, strict=True) if not moved] == ["fc.weight", "fc.bias"]
    assert all(gradients(terms["distillation"], parameters))
    assert not any(gradients(terms["attention"], parameters[-2:]))
    assert gradients(terms["attention"], parameters[:1]) == [True]


def test_every_level_has_a_distance(method, batch):
    """Stages 1 to 3 and the final map each get a gradient of their own attention."""
    found = []
    forward = method.backbone.forward

    def kept(images):
        features = forward(images)
        found.extend((*features.stages[:-1], features.final))
        return features

    method.backbone.forward = kept
    attention = method(batch, START).terms["attention"]
    assert gradients(attention, found) == [True] * 4


def test_every_part_learns(method, batch):
    method(batch, START).loss.backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in method.parameters())


def test_a_supervision_replaces_the_label_in_both_cross_entropies(backbone, batch, data, method):
    supervision = selfkd.create_supervision("smoothed", smoothing=0.3)
    smoothed = selfkd.create_method("frskd", backbone, data, supervision=supervision)
    smoothed.load_state_dict(method.state_dict())
    output = smoothed(batch, START)
    losses = [cross_entropy(output.logits[head], batch.labels, label_smoothing=0.3) for head in ("main", "fusion")]
    torch.testing.assert_close(output.terms["labels"], sum(losses))


# network: parameters of the self-teacher, mega multiply-adds of a forward pass in training
COSTS = {
    "resnet18_cifar": (6_375_794, 947.6),  # specification, sections G and H
    "resnext18_cifar": (6_375_794, 1495.0),
    "vgg16_cifar": (13_488_754, 396.4),
}


@pytest.mark.parametrize("name", COSTS)
def test_training_costs_what_was_published(name):
    parameters, mega_macs = COSTS[name]
    backbone = selfkd.create_backbone(name, 100)
    method = selfkd.create_method("frskd", backbone, selfkd.DatasetInfo(50_000, 100)).eval()
    assert parameters_of(method.self_teacher) == parameters
    assert multiply_adds(method.predict) / 1e6 == pytest.approx(mega_macs, abs=0.055)


def test_stages_of_one_size_and_odd_sizes_train(batch, data):
    """The maps of this ShuffleNetV2's last two stages are equally large, and its last map has more channels."""
    shuffle = selfkd.create_backbone("shufflenetv2_cifar", 10, width=8)
    assert shuffle.stage_shapes[-1][1:] == shuffle.stage_shapes[-2][1:]
    odd = selfkd.create_backbone("resnet18_cifar", 10, width=8, input_size=(3, 13, 18))
    for backbone in (shuffle, odd):
        images = torch.randn(4, *backbone.input_size)
        method = selfkd.create_method("frskd", backbone, data)
        output = method(selfkd.Batch(images, batch.labels), START)
        output.loss.backward()
        assert torch.isfinite(output.loss)
        assert all(torch.isfinite(parameter.grad).all() for parameter in method.parameters())


def test_the_deployed_network_is_the_plain_one(backbone, method, batch):
    assert method.deployed() is backbone.network
    assert tuple(method.exits()) == ("main",)
    method.eval()
    predicted = method.predict(batch.images)
    torch.testing.assert_close(predicted["fusion"], method(batch, START).logits["fusion"])
    assert torch.equal(predicted["main"], method.deployed()(batch.images))


def test_the_self_teacher_gets_the_initialisation_of_the_networks_family(backbone, data):
    backbone.network.initialize_branches = lambda branches: torch.nn.init.constant_(branches.classifier.bias, 0.5)
    method = selfkd.create_method("frskd", backbone, data)
    assert (method.self_teacher.classifier.bias == 0.5).all()


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("width_factor", 0, ">= 1"),
        ("width_factor", 1.5, "whole number"),
        ("width_factor", 2000, "at most 1024"),
        ("depth", 0, ">= 1 and at most 64"),
        ("depth", 65, ">= 1 and at most 64"),
        ("distillation_weight", -1.0, ">= 0"),
        ("attention_weight", float("nan"), ">= 0"),
        ("temperature", 0.0, "> 0"),
        ("temperature", 1e5, "at most 10000"),
    ],
)
def test_values_out_of_range_are_refused(backbone, data, option, value, allowed):
    with pytest.raises(OptionError, match=rf"{option}=.*{allowed}"):
        selfkd.create_method("frskd", backbone, data, **{option: value})


def test_maps_that_neither_halve_nor_stay_are_refused():
    network = torchvision.models.resnet18(num_classes=10)
    staged = selfkd.stage(network, ["bn1", "layer1", "layer3", "layer4"], input_size=64)
    with pytest.raises(
        BackboneError, match="FRSKD needs stages that halve, rounded up, or stay equal; .* 32x32, 16x16, 4x4, 2x2"
    ):
        selfkd.create_method("frskd", staged, selfkd.DatasetInfo(4, 10))
