import pytest
import torch

from selfkd.errors import NonFiniteLossError
from selfkd.evaluation.evaluation import (
    agreement,
    class_accuracies,
    confusion_matrix,
    measure_split,
    scale_temperatures,
)
from selfkd.evaluation.outcomes import Outcomes
from selfkd.evaluation.predictions import Predictions
from selfkd.evaluation.split_metrics import SPLIT_METRICS


def outcomes(predicted, labels, classes=4):
    logits = torch.nn.functional.one_hot(torch.tensor(predicted), classes).float()
    return Outcomes.of(logits, torch.tensor(labels))


def predictions(images=100, classes=7, sharper=1.0):
    generator = torch.Generator().manual_seed(0)
    logits = {head: 2 * torch.randn(images, classes, generator=generator) for head in ("main", "branch1")}
    labels = torch.multinomial(logits["main"].softmax(dim=1), 1, generator=generator).squeeze(1)
    return Predictions({head: sharper * each for head, each in logits.items()}, labels, torch.arange(images))


def test_classes_and_confusions_by_hand():
    made = outcomes([0, 0, 1, 2, 2], [0, 1, 1, 2, 0])
    assert class_accuracies(made, 4) == (50.0, 50.0, 100.0, None)
    assert confusion_matrix(made, 4) == ((1, 0, 1, 0), (1, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 0))


def test_agreement_by_hand():
    heads = {"main": outcomes([0, 1, 2, 3], [0, 0, 0, 0]), "branch1": outcomes([0, 1, 3, 2], [0, 0, 0, 0])}
    assert agreement(heads) == {
        "main": {"main": 100.0, "branch1": 50.0},
        "branch1": {"main": 50.0, "branch1": 100.0},
    }


@pytest.mark.parametrize("classes", [2, 5, 7])
def test_every_head_and_the_ensemble_have_every_metric_with_an_interval(classes):
    measured = measure_split([predictions(classes=classes)], classes)
    assert measured.ensemble == ("main", "branch1")
    assert list(measured.scores) == list(measured.outcomes) == ["main", "branch1", "ensemble"]
    for metrics in measured.scores.values():
        assert list(metrics) == [name for name in SPLIT_METRICS if name != "top5" or classes > 5]
        for score in metrics.values():
            low, high = score["interval"]
            assert low <= score["value"] <= high
            assert score["n"] == 100


def test_batches_do_not_change_the_scores():
    whole = predictions(2500)
    parts = list(whole.in_batches())
    assert [len(part) for part in parts] == [1000, 1000, 500]
    assert torch.equal(torch.cat([part.indices for part in parts]), whole.indices)
    assert measure_split(parts, 7).scores == measure_split([whole], 7).scores


def test_a_logit_that_is_no_number_is_refused():
    made = predictions()
    made.logits["branch1"][3, 2] = float("nan")
    with pytest.raises(NonFiniteLossError, match="branch1"):
        measure_split([made], 7)


def test_temperature_scaling_repairs_a_network_that_is_too_sure():
    whole = predictions(3000, sharper=3.0)
    fitting, measuring = whole.take(torch.arange(1000)), whole.take(torch.arange(1000, 3000))
    scaling = scale_temperatures(fitting, measuring, "these", "those")
    assert (scaling.fitted_images, scaling.measured_images) == (1000, 2000)
    assert list(scaling.temperatures) == list(scaling.before) == list(scaling.after) == ["main", "branch1", "ensemble"]
    assert scaling.temperatures["main"] == pytest.approx(3, rel=0.1)
    assert scaling.before == measure_split([measuring], 7).scores
    for name in ("nll", "brier", "ece", "adaptive_ece"):
        assert scaling.after["main"][name]["value"] < scaling.before["main"][name]["value"]
    for head in scaling.before:
        assert scaling.after[head]["top1"] == scaling.before[head]["top1"]
        assert scaling.after[head]["nll"]["value"] < scaling.before[head]["nll"]["value"]


def test_a_head_that_is_always_right_where_its_temperature_is_fitted_is_named(caplog):
    labels = torch.arange(12) % 4
    logits = {"main": 5 * torch.nn.functional.one_hot(labels, 4).float()}
    made = Predictions(logits, labels, torch.arange(12))
    scale_temperatures(made, made, "the validation split", "the test split")
    assert "main predicts all 12 images right on which its temperature is fitted (the validation split)" in caplog.text
