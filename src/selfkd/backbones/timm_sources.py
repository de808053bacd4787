"""The names of timm's networks, known before timm is imported, which takes seconds."""

from __future__ import annotations

import functools
import importlib.util
import re
import sys
from pathlib import Path

__all__ = ["is_timm_name", "timm_names"]

# How timm's sources enter a network, and names that networks had before.
_ENTERED = re.compile(r"^@register_model\s*\ndef (\w+)\(", re.MULTILINE)
_RENAMED = re.compile(r"^register_model_deprecations\(__name__, \{(.*?)^\}\)", re.MULTILINE | re.DOTALL)
_OLD_NAME = re.compile(r"""^\s*['"](\w+)['"]\s*:""", re.MULTILINE)
_TAG_MARK = "."  # of pretrained weights: resnet50.a1_in1k


def is_timm_name(name: str) -> bool:
    """Whether timm has a network of that name, whatever pretrained weights it names."""
    architecture = name.partition(_TAG_MARK)[0]
    if "timm" not in sys.modules:
        entered, renamed = _in_sources()
        if entered:
            return architecture in entered or architecture in renamed
    import timm  # somebody else's source form, or networks that somebody has entered

    return bool(timm.is_model(name))


def timm_names() -> list[str]:
    """The names of all networks, without former ones."""
    entered, _ = _in_sources()
    if entered:
        return sorted(entered)
    import timm

    return list(timm.list_models())


@functools.cache
def _in_sources() -> tuple[frozenset[str], frozenset[str]]:
    """The names that timm's sources enter, and former names; empty if the sources cannot be read."""
    entered: set[str] = set()
    renamed: set[str] = set()
    package = importlib.util.find_spec("timm")
    for place in (package and package.submodule_search_locations) or ():
        for file in Path(place, "models").glob("*.py"):
            source = file.read_text(encoding="utf-8")
            entered |= set(_ENTERED.findall(source))
            for block in _RENAMED.findall(source):
                renamed |= set(_OLD_NAME.findall(block))
    return frozenset(entered), frozenset(renamed)
