import math

import pytest

from selfkd.errors import OptionError, UnknownNameError, shown
from selfkd.option_checks import (
    at_least,
    check_arguments,
    either,
    multiple_of,
    non_negative,
    one_positive,
    positive,
    weights,
)

HUGE = 10**5000  # more digits than Python writes out


@pytest.mark.parametrize("check", [positive, non_negative, lambda option, value: at_least(option, value, 1)])
@pytest.mark.parametrize(
    "value", [pytest.param(HUGE, id="huge"), pytest.param(-HUGE, id="minus"), math.inf, math.nan, "1", True]
)
def test_what_no_option_can_be_is_refused(check, value):
    with pytest.raises(OptionError, match="^size=.* is not allowed; size must be "):
        check("size", value)


@pytest.mark.parametrize("check", [positive, non_negative, lambda option, value: at_least(option, value, 1)])
def test_no_value_is_said_to_be_missing(check):
    with pytest.raises(OptionError, match="^size is missing; it must be a "):
        check("size", None)


def test_numbers_have_a_largest_value():
    assert positive("size", 3, maximum=3) == 3
    assert non_negative("size", 0, maximum=3) == 0
    assert at_least("size", 3, 1, maximum=3) == 3
    for check in (positive, non_negative):
        with pytest.raises(OptionError, match="at most 3"):
            check("size", 3.5, maximum=3)
        with pytest.raises(OptionError, match="at most 1e.30"):
            check("size", 1e308)
    with pytest.raises(OptionError, match="at most 2147483647"):
        at_least("size", 2**31, 1)
    with pytest.raises(OptionError, match="at most 8"):
        multiple_of("size", 16, 4, maximum=8)


def test_one_of_two_numbers():
    assert either("side", 32, 28, 32) == 32
    with pytest.raises(OptionError, match="^side=30 is not allowed; side must be 28 or 32$"):
        either("side", 30, 28, 32)


@pytest.mark.parametrize("values", [(1.0, 1e308), (1.0, HUGE), (1.0, "1"), (1.0, math.nan), (1.0,)])
def test_weights_are_finite_numbers(values):
    with pytest.raises(OptionError, match="2 finite numbers"):
        weights("weights", values, 2, "first, second")


def test_one_weight_is_above_0():
    one_positive(first=0, second=1e-9)
    with pytest.raises(OptionError, match="first=0 is not allowed; second is 0, too, so nothing would be learnt"):
        one_positive(first=0, second=0.0)


def test_an_option_may_have_any_name():
    def takes(*, part=1, target=2):
        """Its options have the names of the check's own arguments."""

    check_arguments("this part", takes, part=3, target=4)
    with pytest.raises(OptionError, match="this part has no such option; its options are: part, target"):
        check_arguments("this part", takes, targets=4)


def test_a_value_is_shown_whole_or_cut_but_never_fails():
    assert shown("short") == "'short'"
    assert shown("x" * 500) == "'" + "x" * 195 + " ..."
    assert shown(HUGE) == "<int>"
    assert len(str(UnknownNameError("recipe", "x" * 10**6, ["one"], "see the list"))) < 300
