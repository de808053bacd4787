"""The supervisions, by name: the targets of heads that learn from labels. Imports torch only when one is created."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from selfkd.catalogue import Catalogue, Entry
from selfkd.option_checks import check_arguments

if TYPE_CHECKING:
    from selfkd.supervision.base import Supervision

__all__ = ["SUPERVISIONS", "create_supervision"]

SUPERVISIONS = Catalogue(
    "supervision",
    {
        "labels": Entry("selfkd.supervision.labels:Labels", "the label itself"),
        "smoothed": Entry("selfkd.supervision.smoothed:Smoothed", "the label mixed with the uniform distribution"),
        "historical": Entry(
            "selfkd.supervision.historical:Historical", "the label mixed with the head's own last prediction"
        ),
    },
    listing="the supervisions are labels, smoothed and historical; supervision=null removes the recipe's",
)


def create_supervision(name: str, **options: Any) -> Supervision:
    """Create a supervision by name, for the keyword argument `supervision` of one method.

    Args:
        name: one of `SUPERVISIONS`.
        options: keyword arguments of the supervision's class.
    Raises:
        UnknownNameError: if there is no such supervision.
        OptionError: if the supervision has no such option, or a value is out of range.
    """
    kind = SUPERVISIONS.load(name)
    check_arguments(f"supervision {name!r}", kind, **options)
    supervision: Supervision = kind(**options)
    return supervision
