"""The metrics of a split against naive loops and other libraries."""

import math

import pytest
import torch
from sklearn.metrics import brier_score_loss, log_loss
from torchmetrics.functional.classification import multiclass_calibration_error

from selfkd.evaluation.metrics import METRICS, HeadMetrics
from selfkd.evaluation.outcomes import Outcomes
from selfkd.evaluation.split_metrics import BINS, SPLIT_METRICS


def predicted(images=200, classes=8, sureness=2.0, seed=0):
    """Logits and labels of a network that is right for about half of the images."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (images,), generator=generator)
    logits = sureness * torch.randn(images, classes, generator=generator)
    logits[torch.arange(images), labels] += sureness
    return logits, labels


def tied(images=60, classes=4):
    """Logits of which many are equal, so that confidences are."""
    logits, labels = predicted(images, classes)
    return logits.round(), labels


def all_right():
    logits, labels = predicted(30)
    logits[torch.arange(30), labels] += 50
    return logits, labels


def all_wrong():
    logits, labels = all_right()
    return logits, (labels + 1) % 8


CASES = {
    "many": predicted(),
    "two classes": predicted(classes=2),
    "unsure": predicted(sureness=0.1),
    "fewer than bins": predicted(images=7),
    "no multiple of the bins": predicted(images=44),
    "one image": predicted(images=1),
    "ties": tied(),
    "all equal": (torch.zeros(20, 8), torch.arange(20) % 8),
    "all right": all_right(),
    "all wrong": all_wrong(),
}


def probabilities_of(logits):
    return logits.double().softmax(dim=1)


def naive_brier(logits, labels):
    total = 0.0
    for row, label in zip(probabilities_of(logits).tolist(), labels.tolist(), strict=True):
        total += sum((value - (position == label)) ** 2 for position, value in enumerate(row))
    return total / len(labels)


def naive_nll(logits, labels):
    rows = probabilities_of(logits).tolist()
    return sum(-math.log(row[label]) for row, label in zip(rows, labels.tolist(), strict=True)) / len(labels)


def most_confident_first(logits, labels):
    """Confidence of every image, and whether it is right: the mean of all images with the same confidence."""
    confidences, predictions = probabilities_of(logits).max(dim=1)
    pairs = list(zip(confidences.tolist(), predictions.eq(labels).tolist(), strict=True))
    mean = {each: [right for other, right in pairs if other == each] for each, _ in pairs}
    return sorted(((each, sum(mean[each]) / len(mean[each])) for each, _ in pairs), reverse=True)


def gap(images):
    return abs(sum(right - confidence for confidence, right in images))


def naive_ece(logits, labels):
    images = most_confident_first(logits, labels)
    bins = [[each for each in images if k / BINS <= each[0] < (k + 1) / BINS] for k in range(BINS)]
    bins.append([each for each in images if each[0] == 1])
    return sum(map(gap, bins)) / len(images)


def naive_adaptive_ece(logits, labels):
    images = most_confident_first(logits, labels)
    count = len(images)
    bins = [images[k * count // BINS : (k + 1) * count // BINS] for k in range(BINS)]
    assert max(map(len, bins)) - min(map(len, bins)) <= 1
    return sum(map(gap, bins)) / count


def naive_aurc(logits, labels):
    images = most_confident_first(logits, labels)
    risks = [sum(1 - right for _, right in images[:k]) / k for k in range(1, len(images) + 1)]
    return sum(risks) / len(risks)


def naive_accuracy(k):
    def accuracy(logits, labels):
        best = [sorted(range(len(row)), key=row.__getitem__, reverse=True)[:k] for row in logits.tolist()]
        return sum(label in each for label, each in zip(labels.tolist(), best, strict=True)) / len(labels)

    return accuracy


NAIVE = {
    "top1": naive_accuracy(1),
    "top5": naive_accuracy(5),
    "nll": naive_nll,
    "brier": naive_brier,
    "ece": naive_ece,
    "adaptive_ece": naive_adaptive_ece,
    "aurc": naive_aurc,
}


def values(name, logits, labels):
    """The metric, and that of a sample which holds each image once."""
    outcomes = Outcomes.of(logits, labels)
    once = torch.ones(1, len(labels), dtype=torch.float64)
    return SPLIT_METRICS[name].value(outcomes), float(SPLIT_METRICS[name].of_samples(outcomes, once))


@pytest.mark.parametrize("case", [case for case in CASES if case not in ("ties", "all equal")])
@pytest.mark.parametrize("name", SPLIT_METRICS)
def test_a_metric_equals_its_naive_loop(name, case):
    for value in values(name, *CASES[case]):
        assert value == pytest.approx(NAIVE[name](*CASES[case]), abs=1e-9)


@pytest.mark.parametrize("case", ["ties", "all equal"])
@pytest.mark.parametrize("name", ["nll", "brier", "ece", "adaptive_ece", "aurc"])
def test_ties_count_with_their_mean_and_no_order_matters(name, case):
    logits, labels = CASES[case]
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(3))
    for value in (*values(name, logits, labels), *values(name, logits[order], labels[order])):
        assert value == pytest.approx(NAIVE[name](logits, labels), abs=1e-9)


@pytest.mark.parametrize("name", SPLIT_METRICS)
def test_a_sample_that_repeats_images_has_the_metric_of_these_images(name):
    logits, labels = predicted(100)
    outcomes = Outcomes.of(logits, labels)
    generator = torch.Generator().manual_seed(1)
    drawn = [torch.randint(100, (100,), generator=generator) for _ in range(3)]
    counts = torch.stack([each.bincount(minlength=100) for each in drawn]).double()
    expected = [SPLIT_METRICS[name].value(Outcomes.of(logits[each], labels[each])) for each in drawn]
    assert SPLIT_METRICS[name].of_samples(outcomes, counts).tolist() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("case", ["many", "two classes", "all right", "all wrong"])
def test_brier_equals_scikit_learns(case):
    pytest.importorskip("sklearn", minversion="1.7", reason="the Brier score of more than two classes is new in 1.7")
    logits, labels = CASES[case]
    expected = brier_score_loss(
        labels, probabilities_of(logits).numpy(), labels=list(range(logits.shape[1])), scale_by_half=False
    )
    assert values("brier", logits, labels)[0] == pytest.approx(expected)


@pytest.mark.parametrize("case", ["many", "two classes", "all right"])  # of all wrong, it clips the probabilities
def test_nll_equals_scikit_learns(case):
    logits, labels = CASES[case]
    expected = log_loss(labels, probabilities_of(logits).numpy(), labels=list(range(logits.shape[1])))
    assert values("nll", logits, labels)[0] == pytest.approx(expected)


@pytest.mark.parametrize("case", CASES)
def test_ece_equals_torchmetrics_of_the_probabilities(case):
    logits, labels = CASES[case]
    expected = multiclass_calibration_error(probabilities_of(logits), labels, logits.shape[1], n_bins=15, norm="l1")
    for value in values("ece", logits, labels):
        assert value == pytest.approx(float(expected), abs=1e-6)


def test_aurc_of_some_rankings_by_hand():
    assert values("aurc", *all_right())[0] == 0
    assert values("aurc", *all_wrong())[0] == pytest.approx(1)
    # Confidences fall; right, wrong, right, wrong: risks 0, 1/2, 1/3, 1/2.
    logits = torch.tensor([[4.0, 0.0], [3.0, 0.0], [2.0, 0.0], [1.0, 0.0]])
    assert values("aurc", logits, torch.tensor([0, 1, 0, 1]))[0] == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    # The best ranking of these is that of the formula of Geifman et al. (2019): r + (1 - r) ln(1 - r) for many images.
    images, wrong = 2000, 400
    confidences = torch.linspace(5, 1, images)
    labels = torch.cat([torch.zeros(images - wrong), torch.ones(wrong)]).long()
    logits = torch.stack([confidences, torch.zeros(images)], dim=1)
    best = 0.2 + 0.8 * math.log(0.8)
    assert values("aurc", logits, labels)[0] == pytest.approx(best, abs=1e-3)


def test_adaptive_ece_of_two_bins_by_hand():
    # 30 images: the 15 bins hold two each. All have confidence 0.75 or 0.6, and every second one is right.
    confidences = torch.tensor([0.75] * 16 + [0.6] * 14, dtype=torch.float64)
    logits = torch.stack([(confidences / (1 - confidences)).log(), torch.zeros(30, dtype=torch.float64)], dim=1)
    expected = (16 * 0.25 + 14 * 0.1) / 30
    assert values("adaptive_ece", logits, torch.arange(30) % 2)[0] == pytest.approx(expected)


def test_metrics_of_every_epoch_have_the_same_values():
    logits, labels = predicted()
    metrics = HeadMetrics(8, "cpu")
    metrics.update({"main": logits}, labels)
    for name, score in metrics.compute()["main"].items():
        assert name in METRICS
        metric = SPLIT_METRICS[name]
        assert metric.score(metric.value(Outcomes.of(logits, labels)), 200) == score


@pytest.mark.parametrize("name", SPLIT_METRICS)
def test_every_metric_has_a_unit(name):
    score = SPLIT_METRICS[name].score(0.5, 10)
    assert score["n"] == 10
    assert (score["value"], score["unit"]) in {(50.0, "%"), (0.5, "nat"), (0.5, "")}
