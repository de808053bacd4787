"""Temperature scaling: one number for each head that makes its probabilities fit how often it is right."""

from __future__ import annotations

import math

from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional

__all__ = ["LARGEST", "SMALLEST", "fit_temperature"]

SMALLEST, LARGEST = 0.01, 100.0
"""The range of temperatures. If all predictions are wrong, for instance, the best one would be infinite."""

_TOLERANCE = {"xatol": 1e-7}  # of the logarithm of T


def fit_temperature(logits_NK: Tensor, labels_N: Tensor) -> float:
    """The temperature T in [0.01, 100] for which `softmax(logits / T)` has the least mean NLL.

    T > 1 makes the network less confident, T < 1 more confident. The predicted classes stay.

    Args:
        logits_NK: `[N, K]`, N >= 1, of images that the network was not trained on.
        labels_N: `[N]` int64.
    Source: Guo et al. 2017, arXiv:1706.04599, section 4.2.
    """
    wide_NK = logits_NK.double()

    def nll(logarithm: float) -> float:
        return float(functional.cross_entropy(wide_NK / math.exp(logarithm), labels_N))

    # In 1 / T the NLL is convex, so there is one minimum.
    found = minimize_scalar(nll, bounds=(math.log(SMALLEST), math.log(LARGEST)), method="bounded", options=_TOLERANCE)
    return math.exp(found.x) if found.fun < nll(0) else 1.0
