"""Temperature scaling: one number for each head that makes its probabilities fit how often it is right."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["LARGEST", "SMALLEST", "fit_temperature"]

SMALLEST, LARGEST = 0.01, 100.0
"""The range of temperatures. If all predictions are wrong, for instance, the best one would be infinite."""

_ITERATIONS = 100


def fit_temperature(logits_NK: Tensor, labels_N: Tensor) -> float:
    """The temperature T in [0.01, 100] for which `softmax(logits / T)` has the least mean NLL.

    T > 1 makes the network less confident, T < 1 more confident. The predicted classes stay.

    Args:
        logits_NK: `[N, K]`, N >= 1, of images that the network was not trained on.
        labels_N: `[N]` int64.
    Source: Guo et al. 2017, arXiv:1706.04599, section 4.2.
    """
    wide_NK = logits_NK.double()
    smallest, largest = math.log(SMALLEST), math.log(LARGEST)
    logarithm = torch.zeros((), dtype=torch.float64, requires_grad=True)  # T = exp(logarithm) is positive
    optimizer = torch.optim.LBFGS([logarithm], max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        scaled_NK = wide_NK / logarithm.clamp(smallest, largest).exp()
        loss = functional.cross_entropy(scaled_NK, labels_N)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    return min(max(math.exp(float(logarithm.detach())), SMALLEST), LARGEST)
