"""What a method remembers across epochs beyond its weights."""

from selfkd.memories.base import Memory
from selfkd.memories.history import History
from selfkd.memories.history_options import HistoryOptions

__all__ = ["History", "HistoryOptions", "Memory"]
