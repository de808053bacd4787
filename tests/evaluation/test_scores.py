import pytest

from selfkd.evaluation.scores import Score, digits, in_words, percent


@pytest.mark.parametrize(
    ("fraction", "kept", "words"),
    [(1 / 3, 33.3333, "33.33 %"), (0.99996, 99.996, "100.00 %"), (0.0, 0.0, "0.00 %")],
)
def test_a_fraction_is_kept_in_percent(fraction, kept, words):
    measured = percent(fraction, 100)
    assert measured == {"value": kept, "unit": "%", "n": 100}
    assert in_words(measured) == words


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [(41.2, "%", "41.20 %"), (0.123456789, "nat", "0.1235 nat"), (0.00123, "nat", "0.00123 nat"), (-1.5, "", "-1.5")],
)
def test_a_figure_is_shown_in_its_unit(value, unit, words):
    assert in_words(Score(value=value, unit=unit, n=100)) == words
    assert words.split()[0] == digits(value, unit)
