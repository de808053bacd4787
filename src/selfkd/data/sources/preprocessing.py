"""The options that prepare images as a network's pretrained weights expect them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from selfkd.contract import Preprocessing

__all__ = ["followed_options", "options_for"]

_CHANNELS = 3


def options_for(preprocessing: Preprocessing, options: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The options of data set and augmentation that fit pretrained weights, with their values, by section.

    Args:
        preprocessing: how images were prepared for the weights.
        options: section to its options with their values; "data" at least. Only these options are returned. A
            `data.image_size` that is not None is kept; images are cropped by the same share as for the weights.
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
    """The options that take their values from pretrained weights, with these values, by section.

    If `data.mean` or `data.std` is given, there are none: the user prepares images in another way. The stored recipe of
    a run of an older version may lack newer options, but it has these two, so the run stays as it was.

    Args:
        preprocessing: how images were prepared for the weights.
        options: section to all its options.
        given: flat keys of the options that the user gave; they are kept.
    """
    if not {"data.mean", "data.std"}.isdisjoint(given):
        return {}
    return {
        section: {option: value for option, value in expected.items() if f"{section}.{option}" not in given}
        for section, expected in options_for(preprocessing, options).items()
    }
