"""Attention between peers: each gets a target of its own from the logits of all (OKDDip)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from selfkd.losses import full_precision

__all__ = ["PeerAttention"]

_REDUCTION = 8
"""Features per dimension of the projections."""


class PeerAttention(nn.Module):
    """`t_a = sum_b A_ab z_b` with `A_a = softmax over b of (W_q f_a) . (W_k f_b)`, for each sample.

    The products are not scaled, and a peer attends to itself, too. All peers share both projections, which have a
    dimension for every 8 features and no bias.

    Args:
        num_features: D, length of the peers' pooled features.
    Source: Chen et al. 2020 (OKDDip), its release.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        dimensions = max(1, num_features // _REDUCTION)
        self.query = nn.Linear(num_features, dimensions, bias=False)
        self.key = nn.Linear(num_features, dimensions, bias=False)

    def forward(self, features: Sequence[Tensor], logits: Sequence[Tensor]) -> list[Tensor]:
        """The target of each peer: logits `[B, K]`, float32 or wider. Gradient flows into all arguments.

        Args:
            features: pooled features of P peers, `[B, D]` each.
            logits: their logits, `[B, K]` each.
        """
        features_BPD = torch.stack(list(features), dim=1)
        logits_BPK = torch.stack([full_precision(each) for each in logits], dim=1)
        query_BPE, key_BPE = full_precision(self.query(features_BPD)), full_precision(self.key(features_BPD))
        # Not a matrix product, which autocast would compute in half precision.
        scores_BPP = (query_BPE.unsqueeze(2) * key_BPE.unsqueeze(1)).sum(dim=3)
        attention_BPP = scores_BPP.softmax(dim=2)
        targets_BPK = (attention_BPP.unsqueeze(3) * logits_BPK.unsqueeze(1)).sum(dim=2)
        return list(targets_BPK.unbind(dim=1))
