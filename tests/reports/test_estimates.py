import statistics

import numpy as np
import pytest
from scipy import stats

from selfkd.reports.estimates import Difference, Estimate, paired_over_images, paired_over_seeds


def correct(share, n, seed):
    return np.random.default_rng(seed).random(n) < share


def test_mean_and_sample_standard_deviation():
    estimate = Estimate.of([90.0, 92.0, 91.0])
    assert (estimate.mean, estimate.std, estimate.n) == (91, 1, 3)
    assert str(estimate) == "91.00 ± 1.00"


def test_a_single_run_has_no_spread():
    estimate = Estimate.of([90.123])
    assert estimate.std is None
    assert str(estimate) == "90.12"


def test_the_interval_over_seeds_is_students_on_the_paired_differences():
    ours, baseline = {0: 91.0, 1: 93.5, 2: 92.0}, {2: 91.0, 1: 92.0, 0: 90.5}
    difference = paired_over_seeds(ours, baseline)
    differences = [0.5, 1.5, 1.0]
    low, high = stats.t.interval(0.95, 2, loc=1.0, scale=stats.sem(differences))
    assert (difference.mean, difference.n) == (1.0, 3)
    assert (difference.low, difference.high) == pytest.approx((low, high))
    assert difference.low == pytest.approx(1 - 4.302653 * statistics.stdev(differences) / 3**0.5)
    assert str(difference) == "+1.00 [-0.24, +2.24]"


def test_only_seeds_that_both_have_are_paired():
    assert paired_over_seeds({0: 90.0, 1: 95.0}, {1: 94.0, 2: 10.0}) == Difference(1.0, None, None, 1)
    assert str(Difference(-1.0, None, None, 1)) == "-1.00"
    assert paired_over_seeds({0: 90.0}, {1: 94.0}) is None


@pytest.mark.parametrize("same_images", [True, False])
def test_the_interval_over_images_is_that_of_scipys_paired_bootstrap(same_images):
    ours = [correct(0.9, 400, seed) for seed in (1, 2, 3)]
    baseline = [correct(0.8, 400, seed) for seed in (4, 5, 6)]
    difference = paired_over_images([*zip(ours, baseline, strict=True)], same_images)
    joined = [np.mean(each, axis=0) if same_images else np.concatenate(each).astype(float) for each in (ours, baseline)]
    expected = stats.bootstrap(
        joined,
        lambda one, other, axis: 100 * np.mean(one - other, axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=10_000,
        method="percentile",
        random_state=np.random.default_rng(7),  # scipy 1.13 has no `rng`
    ).confidence_interval
    assert difference.mean == pytest.approx(100 * (joined[0].mean() - joined[1].mean()))
    assert difference.n == (400 if same_images else 1200)
    assert (difference.low, difference.high) == pytest.approx((expected.low, expected.high), abs=0.25)


def test_pairing_removes_what_both_have_in_common():
    easy = correct(0.7, 1000, 0)
    better = easy.copy()
    better[np.flatnonzero(~easy)[:20]] = True
    difference = paired_over_images([(better, easy)], same_images=True)
    assert difference.mean == pytest.approx(2.0)
    assert 1.1 < difference.low < difference.high < 3.0
    assert paired_over_images([(easy, easy)], same_images=True) == Difference(0.0, 0.0, 0.0, 1000)


def test_a_share_of_several_heads_counts_as_such():
    ours, baseline = np.array([1.0, 0.5, 0.0, 1.0]), np.array([True, False, True, True])
    difference = paired_over_images([(ours, baseline)], same_images=True)
    assert (difference.mean, difference.n) == (-12.5, 4)
    assert difference.low < difference.mean < difference.high


def test_the_interval_does_not_change_from_call_to_call():
    pairs = [(correct(0.9, 50, 1), correct(0.5, 50, 2))]
    assert paired_over_images(pairs, True) == paired_over_images(pairs, True)
