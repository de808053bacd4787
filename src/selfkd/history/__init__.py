"""The soft-label history: what every head predicted for every training sample in the last epoch."""

from selfkd.history.history import History
from selfkd.history.options import HistoryOptions

__all__ = ["History", "HistoryOptions"]
