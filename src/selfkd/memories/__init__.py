"""A method's memory: what it keeps from one epoch to the next beside its weights."""

from selfkd.memories.base import Memory
from selfkd.memories.history import History
from selfkd.memories.history_options import HistoryOptions

__all__ = ["History", "HistoryOptions", "Memory"]
