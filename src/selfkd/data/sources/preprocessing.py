"""The options that prepare images as a network's pretrained weights expect them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from selfkd.contract import Preprocessing

__all__ = ["followed_options", "following_keys", "options_for"]

_CHANNELS = 3
_ROUNDING = 1e-6  # a length that was divided and multiplied again stays the same whole number
_SECTIONS = ("data", "augmentation")
_NORMALIZATION = frozenset({"data.mean", "data.std"})
_FOLLOWING = frozenset(
    {
        "data.image_size",
        "data.resize",
        "data.interpolation",
        "augmentation.interpolation",
        *_NORMALIZATION,
    }
)


def options_for(preprocessing: Preprocessing, options: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The options of data set and augmentation that fit pretrained weights, with their values, by section.

    Args:
        preprocessing: how images were prepared for the weights.
        options: section to its options with their values; "data" at least. Only these options are returned. A
            `data.image_size` that is not None is kept; images are cropped by the same share as for the weights.
    """
    side = options["data"].get("image_size") or preprocessing.side
    values: dict[str, Any] = {
        "data.image_size": side,
        "data.resize": max(side, int(side / preprocessing.crop_fraction + _ROUNDING)),
    }
    if preprocessing.interpolation is not None:
        values |= dict.fromkeys(("data.interpolation", "augmentation.interpolation"), preprocessing.interpolation)
    if len(preprocessing.mean) == _CHANNELS:
        values |= {"data.mean": preprocessing.mean, "data.std": preprocessing.std}
    expected: dict[str, dict[str, Any]] = {section: {} for section in options if section in _SECTIONS}
    for key, value in values.items():
        section, _, option = key.partition(".")
        if option in options.get(section, ()):
            expected[section][option] = value
    return expected


def following_keys(options: Mapping[str, Mapping[str, Any]], given: Collection[str]) -> frozenset[str]:
    """The flat keys of the options that follow pretrained weights.

    If `data.mean` or `data.std` is given, there are none: the user prepares images in another way. The stored recipe of
    a run of an older version may lack newer options, but it has these two, so the run stays as it was.

    Args:
        options: section to all its options.
        given: flat keys of the options that the user gave; they are kept.
    """
    if not _NORMALIZATION.isdisjoint(given):
        return frozenset()
    every = (f"{section}.{option}" for section in _SECTIONS for option in options.get(section, ()))
    return _FOLLOWING.intersection(every).difference(given)


def followed_options(
    preprocessing: Preprocessing, options: Mapping[str, Mapping[str, Any]], given: Collection[str]
) -> dict[str, dict[str, Any]]:
    """The options that take their values from pretrained weights, with these values, by section.

    Args:
        preprocessing: how images were prepared for the weights.
        options, given: as for `following_keys`.
    """
    following = following_keys(options, given)
    return {
        section: {option: value for option, value in expected.items() if f"{section}.{option}" in following}
        for section, expected in options_for(preprocessing, options).items()
    }
