"""What a head is asked to predict: the label, a smoothed label, or the label mixed with the head's own past."""

from selfkd.supervision.base import Supervision
from selfkd.supervision.historical import Historical
from selfkd.supervision.smoothed import Smoothed

__all__ = ["Historical", "Smoothed", "Supervision"]
