"""The names of timm's networks, read from its sources: to import timm takes seconds."""

from __future__ import annotations

import functools
import importlib.util
import re
import sys
from pathlib import Path

__all__ = ["is_timm_name", "timm_names"]

# How timm's sources register a network, and a former name of one.
_REGISTERED = re.compile(r"^@register_model\s*\ndef (\w+)\(", re.MULTILINE)
_RENAMED = re.compile(r"^register_model_deprecations\(__name__, \{(.*?)^\}\)", re.MULTILINE | re.DOTALL)
_OLD_NAME = re.compile(r"""^\s*['"](\w+)['"]\s*:""", re.MULTILINE)
_TAG_MARK = "."  # before the name of pretrained weights: resnet50.a1_in1k


def is_timm_name(name: str) -> bool:
    """Whether timm has a network of that name. Names of pretrained weights behind it are not checked."""
    architecture = name.partition(_TAG_MARK)[0]
    if "timm" not in sys.modules:
        registered, renamed = _names_in_sources()
        if registered:
            return architecture in registered or architecture in renamed
    import timm  # its sources could not be read, or the user has registered networks

    return bool(timm.is_model(name))


def timm_names() -> list[str]:
    """The names of all networks, without former names."""
    registered, _ = _names_in_sources()
    if registered:
        return sorted(registered)
    import timm

    return list(timm.list_models())


@functools.cache
def _names_in_sources() -> tuple[frozenset[str], frozenset[str]]:
    """The names that timm's sources register, and former names; empty if the sources cannot be read."""
    registered: set[str] = set()
    renamed: set[str] = set()
    package = importlib.util.find_spec("timm")
    for folder in (package and package.submodule_search_locations) or ():
        for file in Path(folder, "models").glob("*.py"):
            source = file.read_text(encoding="utf-8")
            registered |= set(_REGISTERED.findall(source))
            for block in _RENAMED.findall(source):
                renamed |= set(_OLD_NAME.findall(block))
    return frozenset(registered), frozenset(renamed)
