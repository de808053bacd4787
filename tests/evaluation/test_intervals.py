import pytest
import torch
from test_split_metrics import all_right, predicted

from selfkd.evaluation.intervals import SAMPLES, bootstrap_intervals, drawn_samples
from selfkd.evaluation.outcomes import Outcomes
from selfkd.evaluation.split_metrics import SPLIT_METRICS


@pytest.fixture(scope="module")
def outcomes():
    return {"main": Outcomes.of(*predicted(400)), "branch1": Outcomes.of(*predicted(400, sureness=1.0))}


@pytest.fixture(scope="module")
def intervals(outcomes):
    return bootstrap_intervals(outcomes, SPLIT_METRICS)


@pytest.mark.parametrize("name", SPLIT_METRICS)
def test_every_interval_holds_the_metric(intervals, outcomes, name):
    for head, each in outcomes.items():
        low, high = intervals[head][name]
        assert low < SPLIT_METRICS[name].value(each) < high


def test_the_interval_of_an_accuracy_is_that_of_a_proportion(intervals, outcomes):
    share = SPLIT_METRICS["top1"].value(outcomes["main"])
    half = 1.96 * (share * (1 - share) / 400) ** 0.5
    low, high = intervals["main"]["top1"]
    assert (low, high) == pytest.approx((share - half, share + half), abs=0.2 * half)


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution(intervals, outcomes):
    nll = outcomes["main"].nll
    half = 1.96 * float(nll.std()) / 20
    low, high = intervals["main"]["nll"]
    assert (low, high) == pytest.approx((float(nll.mean()) - half, float(nll.mean()) + half), abs=0.2 * half)


def test_an_interval_does_not_depend_on_the_other_heads_nor_on_an_earlier_call(intervals, outcomes):
    assert bootstrap_intervals({"branch1": outcomes["branch1"]}, SPLIT_METRICS)["branch1"] == intervals["branch1"]


def test_samples_do_not_depend_on_how_many_are_in_memory_together(monkeypatch):
    together = torch.cat(list(drawn_samples(20)))
    assert together.shape == (SAMPLES, 20)
    assert together.sum(dim=1).eq(20).all()
    monkeypatch.setattr("selfkd.evaluation.intervals._LARGEST_CHUNK", 70)
    assert torch.equal(torch.cat(list(drawn_samples(20))), together)


@pytest.mark.parametrize("made", [predicted(1), all_right()])
def test_images_that_are_alike_have_an_interval_without_width(made):
    for name, (low, high) in bootstrap_intervals({"main": Outcomes.of(*made)}, SPLIT_METRICS)["main"].items():
        if len(made[1]) == 1 or name in ("top1", "top5", "aurc"):
            assert low == pytest.approx(high, abs=1e-12)


def test_calibration_errors_of_a_calibrated_network_have_intervals_that_hold_them():
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(1000, 5, generator=generator)
    labels = torch.multinomial(logits.softmax(dim=1), 1, generator=generator).squeeze(1)
    outcomes = Outcomes.of(logits, labels)
    for name in ("ece", "adaptive_ece"):
        metric = SPLIT_METRICS[name]
        low, high = bootstrap_intervals({"main": outcomes}, {name: metric})["main"][name]
        assert 0 <= low < metric.value(outcomes) < high
