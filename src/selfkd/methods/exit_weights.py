"""Weights of the exits by depth: how much each learns from a teacher instead of the labels (LOTH, BEED)."""

from __future__ import annotations

from selfkd.branches.exits import EXITS
from selfkd.errors import OptionError
from selfkd.option_checks import positive

__all__ = ["distillation_weights"]


def distillation_weights(alpha: float, last_exponent: int) -> dict[str, float]:
    """The weight `w` of the teacher in each exit; the labels have `2 - w`.

    Args:
        alpha: base of the weights, > 0.
        last_exponent: exponent of the last exit's weight. Each shallower exit has one more.
    Returns: `alpha^exponent` by head, shallowest first.
    Raises: OptionError: if `alpha` is out of range, or so large that the labels' weight is negative in an exit.
    """
    exponents = {head: last_exponent + i for i, head in enumerate(reversed(EXITS))}
    largest_exponent = max(exponents.values())
    largest = 2 ** (1 / largest_exponent)
    if positive("alpha", alpha) > largest:
        reason = (
            f"above 2^(1/{largest_exponent}) = {largest:.3f} the weight 2 - alpha^{largest_exponent} of exit 1's "
            "cross-entropy is negative, which would train the exit away from the labels"
        )
        raise OptionError("alpha", alpha, reason=reason)
    return {head: alpha ** exponents[head] for head in EXITS}
