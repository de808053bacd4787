"""Options that follow a network's pretrained weights, where nobody gave them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from selfkd.backbones.pretrained import preprocessing_of
from selfkd.data.sources.preprocessing import followed_options

__all__ = ["options_of_weights"]


def options_of_weights(
    parts: Mapping[str, str], options: Mapping[str, Mapping[str, Any]], given: Collection[str]
) -> dict[str, dict[str, Any]]:
    """Options, by section, with which images are prepared as the network's pretrained weights expect them.

    Args:
        parts: section to the name of what was chosen.
        options: section to all of its options.
        given: flat keys of those that recipe or overrides gave, which are kept.
    Returns: nothing, unless the recipe asks for pretrained weights and it is known what they expect.
    """
    preprocessing = preprocessing_of(parts["backbone"]) if options["backbone"].get("pretrained") else None
    return {} if preprocessing is None else followed_options(preprocessing, options, given)
