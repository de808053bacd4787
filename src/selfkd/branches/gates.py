"""Gates: they weigh the logits of several branches for each sample (ONE, AHBF)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from selfkd.losses import full_precision

__all__ = ["Gate"]


class Gate(nn.Module):
    """The sum of the branches' logits, weighted for each sample: `z_e = sum_b g_b z_b`.

    `g = softmax(ReLU(BN(linear(average of the map))))`. The weights of a sample are positive and sum to 1; where the
    ReLU cuts off all of its scores, they are equal. The normalisation is over the batch, so a training batch needs two
    samples.

    Args:
        channels: C of the map.
        branches: M, the number of branches.
    Source: Lan et al. 2018 (ONE), its release.
    """

    def __init__(self, channels: int, branches: int) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(channels, branches), nn.BatchNorm1d(branches), nn.ReLU(inplace=True))

    def forward(self, feature_map: Tensor, logits: Sequence[Tensor]) -> Tensor:
        """Logits `[B, K]` of the ensemble, of the branches' type.

        Args:
            feature_map: `[B, C, H, W]`.
            logits: M tensors `[B, K]`, before softmax. Gradient flows into them unless the caller detaches.
        """
        weights_BM = full_precision(self.score(feature_map.mean(dim=(2, 3)))).softmax(dim=1)
        logits_BMK = torch.stack([full_precision(each) for each in logits], dim=1)
        ensemble_BK = (weights_BM.unsqueeze(2) * logits_BMK).sum(dim=1)
        return ensemble_BK.to(logits[0].dtype)
