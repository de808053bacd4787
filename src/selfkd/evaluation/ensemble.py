"""The ensemble of a network's heads."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

__all__ = ["ENSEMBLE", "ensemble_members", "with_ensemble"]

ENSEMBLE = "ensemble"
"""Name of the ensemble among the heads."""
_PEER = "peer"


def ensemble_members(heads: Iterable[str]) -> tuple[str, ...]:
    """The heads whose probabilities the ensemble averages: all but "peer" and "peer_...", heads of another network.

    Returns: nothing if a single head is left, or if the method has a head "ensemble" of its own.
    """
    members = tuple(head for head in heads if head != _PEER and not head.startswith(f"{_PEER}_"))
    return () if ENSEMBLE in members or len(members) == 1 else members


def with_ensemble(logits: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The logits of every head, `[B, K]`, and those of the ensemble, if there is one.

    The ensemble's are the logarithms of the mean of its members' probabilities, whose softmax is that mean.
    """
    members = ensemble_members(logits)
    if not members:
        return dict(logits)
    # In float64 and as logarithms, because a small probability would be 0.
    logarithms_MBK = torch.stack([logits[head].double().log_softmax(dim=1) for head in members])
    mean_BK = logarithms_MBK.logsumexp(dim=0) - math.log(len(members))
    return {**logits, ENSEMBLE: mean_BK.to(logits[members[0]].dtype)}
