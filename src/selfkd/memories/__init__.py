"""The soft-label history: what every head predicted for every training sample in the last epoch."""

from selfkd.memories.history import History
from selfkd.memories.history_options import HistoryOptions

__all__ = ["History", "HistoryOptions"]
