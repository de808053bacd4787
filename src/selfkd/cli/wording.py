"""Sentences that several verbs' help has in common."""

from __future__ import annotations

__all__ = ["OVERWRITE", "UNFINISHED"]

OVERWRITE = "replace the file of --output if it exists"
UNFINISHED = "A run that is not finished is taken from its newest whole checkpoint."
