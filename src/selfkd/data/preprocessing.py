"""Options of a data set with which its images are prepared as a network's pretrained weights expect them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from selfkd.contract import Preprocessing

__all__ = ["followed_options", "options_for"]

_CHANNELS = 3


def options_for(preprocessing: Preprocessing, options: Mapping[str, Any]) -> dict[str, Any]:
    """What the weights expect, as options of a data set; of those alone that it has.

    Args:
        preprocessing: of the weights.
        options: of the data set. An `image_size` that was given is kept, and images are cropped by the weights' share.
    """
    side = options.get("image_size") or preprocessing.side
    expected = {
        "image_size": side,
        "resize": max(side, int(side / preprocessing.crop_fraction)),
        "interpolation": preprocessing.interpolation,
    }
    if len(preprocessing.mean) == _CHANNELS:
        expected |= {"mean": preprocessing.mean, "std": preprocessing.std}
    return {option: value for option, value in expected.items() if option in options}


def followed_options(
    preprocessing: Preprocessing, options: Mapping[str, Any], given: Collection[str]
) -> dict[str, Any]:
    """The options of a data set that follow the pretrained weights, with their values.

    Who gives a mean or a deviation prepares images in a way of their own, and nothing follows. This also keeps runs as
    they were whose stored recipe, of an older version, lacks newer options: it has all that there were, these two among
    them.

    Args:
        preprocessing: of the weights.
        options: all of the data set's.
        given: names of those that somebody gave, which are kept.
    """
    if not {"mean", "std"}.isdisjoint(given):
        return {}
    expected = options_for(preprocessing, options)
    return {option: value for option, value in expected.items() if option not in given}
