import pytest
import torch
from torch.nn import functional

from selfkd.evaluation.temperature import LARGEST, SMALLEST, fit_temperature


def drawn_from(logits):
    """Labels that the network's own probabilities are right about."""
    generator = torch.Generator().manual_seed(1)
    return torch.multinomial(logits.softmax(dim=1), 1, generator=generator).squeeze(1)


@pytest.mark.parametrize("factor", [0.25, 1.0, 3.0])
def test_the_factor_by_which_logits_are_too_large_is_found(factor):
    logits = 2 * torch.randn(5000, 10, generator=torch.Generator().manual_seed(0))
    assert fit_temperature(factor * logits, drawn_from(logits)) == pytest.approx(factor, rel=0.05)


def test_no_other_temperature_has_a_smaller_nll():
    logits = 4 * torch.randn(300, 5, generator=torch.Generator().manual_seed(0))
    labels = drawn_from(logits / 3)
    best = fit_temperature(logits, labels)

    def nll(temperature):
        return float(functional.cross_entropy(logits.double() / temperature, labels))

    assert all(nll(best) <= nll(best * factor) for factor in (0.5, 0.99, 1.01, 2.0))


@pytest.mark.parametrize("shift", [0, 1])
def test_if_all_are_right_or_all_wrong_the_temperature_stays_in_its_range(shift):
    logits = 10 * torch.eye(8)
    temperature = fit_temperature(logits, (torch.arange(8) + shift) % 8)
    assert SMALLEST <= temperature <= LARGEST
    assert (temperature < 1) == (shift == 0)


def test_one_image_and_logits_without_preference_are_no_error():
    assert fit_temperature(torch.zeros(1, 4), torch.tensor([2])) == 1
