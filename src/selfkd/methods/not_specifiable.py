"""The methods of the papers' tables that nobody can build exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["NOT_SPECIFIABLE", "NotSpecifiable"]


@dataclass(frozen=True)
class NotSpecifiable:
    """A method that is not here because its description lacks something.

    Args:
        group: one of `selfkd.methods.listing.GROUPS`.
        paper: the method's full name, and the paper's year.
        reason: what is missing.
    """

    group: str
    paper: str
    reason: str

    def __str__(self) -> str:
        return f"{self.paper} cannot be specified because {self.reason}"


NOT_SPECIFIABLE: Mapping[str, NotSpecifiable] = {
    "dbfskd": NotSpecifiable("structure", "Diversified Branch Fusion (2023)", "its fusion modules are unpublished"),
}
"""The methods that cannot be built, by name."""
