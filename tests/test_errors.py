import pytest

from selfkd.errors import first_line


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("no room\nTraceback of the compiler"), "no room"),
        (RuntimeError("\n  \n  no room \n"), "no room"),
        (AssertionError(), "AssertionError"),
        (ValueError(" \n"), "ValueError"),
    ],
)
def test_the_first_line_of_an_error_is_never_empty(error, said):
    assert first_line(error) == said
