import pytest

from selfkd.contract import Progress
from selfkd.supervision.decay import cosine, fixed, linear

# (total epochs, maximum, minimum): epoch to beta (specification, section 5.4)
COSINE = {
    (300, 0.9, 0.0): {
        0: 0.9,
        1: 0.8999753,
        50: 0.8397114,
        75: 0.7681981,
        100: 0.675,
        149: 0.4547123,
        150: 0.45,
        200: 0.225,
        225: 0.1318019,
        250: 0.0602886,
        299: 0.0000247,
    },
    (90, 1.0, 0.8): {0: 1, 1: 0.9999391, 30: 0.95, 45: 0.9, 60: 0.85, 89: 0.8000609},
    (300, 0.9, 0.1): {75: 0.7828427, 150: 0.5, 225: 0.2171573, 299: 0.1000219},
}


@pytest.mark.parametrize("setting", COSINE)
def test_cosine_golden_values(setting):
    total, maximum, minimum = setting
    for epoch, beta in COSINE[setting].items():
        assert cosine(Progress(epoch, total), maximum, minimum) == pytest.approx(beta, abs=6e-8)


def test_the_papers_indexing_is_one_epoch_ahead():
    assert cosine(Progress(0, 300), 0.9, 0, offset=1) == pytest.approx(0.8999753, abs=6e-8)
    assert cosine(Progress(299, 300), 0.9, 0, offset=1) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("epoch", "beta"), [(0, 0.9973333), (75, 0.7973333), (150, 0.5973333), (299, 0.2)])
def test_linear_golden_values_are_ps_kds_rule(epoch, beta):
    assert linear(Progress(epoch, 300), 1.0, 1.0 - 0.8, offset=1) == pytest.approx(beta, abs=6e-8)


def test_linear_goes_from_maximum_to_minimum():
    assert linear(Progress(0, 10), 0.9, 0.1) == 0.9
    assert linear(Progress(9, 10), 0.9, 0.1, offset=1) == pytest.approx(0.1)


def test_fixed_stays():
    assert {fixed(Progress(epoch, 5), 0.7, 0.0) for epoch in range(5)} == {0.7}
