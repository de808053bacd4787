import pytest
import torch

import seats
import selfkd
from selfkd.data.loading.resident import EvaluationLoader
from selfkd.data.splits import ImageSet
from selfkd.errors import BackboneError, NonFiniteLossError
from selfkd.evaluation.metrics import HeadMetrics, evaluate
from selfkd.evaluation.predictions import collect
from selfkd.methods import METHODS
from selfkd.methods.plain import Plain

CLASSES, SAMPLES = 7, 10


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (SAMPLES, 3, 16, 16), dtype=torch.uint8, generator=generator)


@pytest.fixture
def labels():
    return torch.arange(SAMPLES) % CLASSES


def loader(images, labels, batch_size):
    return EvaluationLoader(ImageSet(images, labels), (0.5,) * 3, (0.25,) * 3, batch_size)


def method_named(name):
    torch.manual_seed(0)
    backbone = selfkd.create_backbone("resnet18_cifar", CLASSES, width=8, input_size=16)
    return seats.create_method(name, backbone, selfkd.DatasetInfo(SAMPLES, CLASSES))


@pytest.mark.parametrize("name", METHODS)
def test_one_pass_collects_every_head_the_pooled_features_and_the_labels(name, images, labels):
    method = method_named(name)
    predictions = collect(method, loader(images, labels, 4), "cpu", pooled=True)
    assert method.training, "its mode is restored"
    method.eval()
    (whole,) = loader(images, labels, SAMPLES)
    with torch.no_grad():
        expected, features = method.predict(whole.images), method.backbone(whole.images)
    assert list(predictions.logits) == list(expected)
    for head, logits_BK in expected.items():
        assert torch.allclose(predictions.logits[head], logits_BK, atol=1e-5)
    assert torch.allclose(predictions.pooled, features.pooled, atol=1e-5)
    assert torch.equal(predictions.labels, labels)
    assert torch.equal(predictions.indices, torch.arange(SAMPLES))
    assert len(predictions) == SAMPLES
    assert not predictions.logits["main"].requires_grad


def test_features_are_collected_only_where_they_are_wanted(images, labels):
    assert collect(method_named("plain"), loader(images, labels, 4), "cpu").pooled is None


def test_metrics_of_what_was_collected_are_those_of_the_evaluation(images, labels):
    method = method_named("loth")
    scores = evaluate(method, loader(images, labels, 4), "cpu")
    assert set(scores["fusion"]) == {"top1", "top5"}
    predictions, metrics = collect(method, loader(images, labels, 3), "cpu"), HeadMetrics(CLASSES, "cpu")
    metrics.update(predictions.logits, predictions.labels)
    assert metrics.compute() == scores


def test_logits_that_are_no_numbers_are_refused(images, labels):
    method = method_named("loth")
    torch.nn.init.constant_(method.deployed().fc.bias, float("nan"))
    with pytest.raises(NonFiniteLossError, match="^logits of main are NaN or infinite$"):
        collect(method, loader(images, labels, 4), "cpu")


class Elsewhere(Plain):
    """Does not ask its backbone."""

    def predict(self, images):
        return {"main": self.backbone.network(images)}


def test_a_method_that_does_not_call_its_backbone_has_no_features(images, labels):
    backbone = selfkd.create_backbone("resnet18_cifar", CLASSES, width=8, input_size=16)
    method = Elsewhere(backbone, selfkd.DatasetInfo(SAMPLES, CLASSES))
    assert len(collect(method, loader(images, labels, 4), "cpu")) == SAMPLES
    with pytest.raises(BackboneError, match="Elsewhere.predict does not call its backbone"):
        collect(method, loader(images, labels, 4), "cpu", pooled=True)
