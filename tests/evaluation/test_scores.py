import pytest

from selfkd.evaluation.scores import in_words, score


@pytest.mark.parametrize(
    ("value", "unit", "kept", "words"),
    [
        (1 / 3, "%", 33.3333, "33.3 %"),
        (0.99996, "%", 99.996, "100.0 %"),
        (0.0, "%", 0.0, "0.0 %"),
        (0.123456789, "nat", 0.123456789, "0.1235 nat"),
        (-1.5, "", -1.5, "-1.5"),
    ],
)
def test_a_figure_is_kept_and_shown_in_its_unit(value, unit, kept, words):
    measured = score(value, unit, 100)
    assert measured == {"value": kept, "unit": unit, "n": 100}
    assert in_words(measured) == words
