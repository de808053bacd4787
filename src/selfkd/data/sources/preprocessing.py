"""Options with which images are prepared as a network's pretrained weights expect them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from selfkd.contract import Preprocessing

__all__ = ["followed_options", "options_for"]

_CHANNELS = 3


def options_for(preprocessing: Preprocessing, options: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What the weights expect, as options of data set and augmentation, by section; of those alone that they have.

    Args:
        preprocessing: of the weights.
        options: section to the options that it has; those of "data" at least. A `data.image_size` that was given is
            kept, and images are cropped by the weights' share.
    """
    side = options["data"].get("image_size") or preprocessing.side
    data: dict[str, Any] = {
        "image_size": side,
        "resize": max(side, int(side / preprocessing.crop_fraction)),
        "interpolation": preprocessing.interpolation,
    }
    if len(preprocessing.mean) == _CHANNELS:
        data |= {"mean": preprocessing.mean, "std": preprocessing.std}
    expected: dict[str, dict[str, Any]] = {"data": data, "augmentation": {"interpolation": preprocessing.interpolation}}
    return {
        section: {option: value for option, value in expected[section].items() if option in has}
        for section, has in options.items()
        if section in expected
    }


def followed_options(
    preprocessing: Preprocessing, options: Mapping[str, Mapping[str, Any]], given: Collection[str]
) -> dict[str, dict[str, Any]]:
    """The options that follow the pretrained weights, with their values, by section.

    Who gives a mean or a deviation prepares images in a way of their own, and nothing follows. This also keeps runs as
    they were whose stored recipe, of an older version, lacks newer options: it has all that there were, these two among
    them.

    Args:
        preprocessing: of the weights.
        options: section to all of its options.
        given: flat keys of those that somebody gave, which are kept.
    """
    if not {"data.mean", "data.std"}.isdisjoint(given):
        return {}
    return {
        section: {option: value for option, value in expected.items() if f"{section}.{option}" not in given}
        for section, expected in options_for(preprocessing, options).items()
    }
