"""Pure functions of tensors: no state, no hidden weight, no detach; losses are in float32 or wider."""

from selfkd.losses.divergence import kl_to_target, soft_cross_entropy, softened_kl
from selfkd.losses.features import (
    attention_distance,
    attention_maps,
    euclidean_distance,
    masked_squared_distance,
    mean_squared_distance,
)
from selfkd.losses.labels import label_probabilities, smooth
from selfkd.losses.precision import full_precision
from selfkd.losses.sums import total

__all__ = [
    "attention_distance",
    "attention_maps",
    "euclidean_distance",
    "full_precision",
    "kl_to_target",
    "label_probabilities",
    "masked_squared_distance",
    "mean_squared_distance",
    "smooth",
    "soft_cross_entropy",
    "softened_kl",
    "total",
]
