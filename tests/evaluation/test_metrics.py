import pytest
import torch
from sklearn.metrics import accuracy_score, top_k_accuracy_score

import selfkd
from selfkd.data.loading.resident import EvaluationLoader
from selfkd.data.splits import ImageSet
from selfkd.errors import NonFiniteLossError
from selfkd.evaluation.metrics import HeadMetrics, evaluate


def test_accuracies_equal_scikit_learns_over_uneven_batches():
    generator = torch.Generator().manual_seed(0)
    logits = {head: torch.randn(50, 8, generator=generator) for head in ("main", "branch1")}
    labels = torch.arange(50) % 8
    metrics = HeadMetrics(8, "cpu")
    for start, stop in ((0, 32), (32, 50)):
        metrics.update({head: values[start:stop] for head, values in logits.items()}, labels[start:stop])
    scores = metrics.compute()
    for head, values in logits.items():
        probabilities = values.softmax(1).numpy()
        top1, top5 = scores[head]["top1"], scores[head]["top5"]
        assert top1["value"] == pytest.approx(100 * accuracy_score(labels, probabilities.argmax(1)))
        assert top5["value"] == pytest.approx(100 * top_k_accuracy_score(labels, probabilities, k=5))
        assert top1["n"] == top5["n"] == 50
        assert top1["unit"] == "%"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_logits_that_are_not_finite_have_no_scores(value, monkeypatch):
    logits = {head: torch.randn(4, 8) for head in ("main", "branch1", "branch2")}
    logits["branch1"][1, 2] = logits["branch2"][3, 7] = value
    metrics = HeadMetrics(8, "cpu")
    with monkeypatch.context() as patched:
        for reads in ("__bool__", "__float__", "__int__", "item", "tolist"):
            patched.setattr(torch.Tensor, reads, lambda tensor: pytest.fail("a batch waits for the device"))
        metrics.update(logits, torch.arange(4))
        metrics.update({head: torch.randn(4, 8) for head in logits}, torch.arange(4))
    with pytest.raises(NonFiniteLossError, match="^logits of branch1, branch2 are NaN or infinite$"):
        metrics.compute()


def test_top5_needs_more_than_five_classes():
    metrics = HeadMetrics(5, "cpu")
    metrics.update({"main": torch.randn(4, 5)}, torch.arange(4))
    scores = metrics.compute()["main"]
    assert "top1" in scores
    assert "top5" not in scores


def test_evaluation_uses_eval_mode_and_leaves_the_method_as_it_was():
    torch.manual_seed(0)
    backbone = selfkd.create_backbone("resnet18_cifar", 6, width=8, input_size=8)
    method = selfkd.create_method("dtskd", backbone, selfkd.DatasetInfo(7, 6))
    frozen = backbone.network.layer1.eval()
    before = {key: value.clone() for key, value in method.state_dict().items()}
    images = torch.randint(0, 256, (7, 3, 8, 8), dtype=torch.uint8)
    loader = EvaluationLoader(ImageSet(images, torch.arange(7) % 6), (0.5,) * 3, (0.25,) * 3, batch_size=3)
    scores = evaluate(method, loader, "cpu")
    assert list(scores) == ["main", "branch1", "branch2", "branch3"]
    assert method.training
    assert not frozen.training
    assert all(torch.equal(before[key], value) for key, value in method.state_dict().items())
    assert scores == evaluate(method, loader, "cpu")
