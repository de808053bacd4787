"""Checks that a network meets the needs of a method."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from selfkd.backbones import BACKBONES
from selfkd.backbones.staged import Staged
from selfkd.contract import Needs
from selfkd.errors import BackboneError
from selfkd.methods.listing import OWN_BLOCKS_IN_WORDS, STAGES_IN_WORDS

if TYPE_CHECKING:
    from selfkd.methods.base import Method

__all__ = ["check_network"]


def _halving(backbone: Staged) -> bool:
    return all(
        later < earlier and later in (earlier // 2, (earlier + 1) // 2)
        for size, next_size in _steps(backbone.stage_shapes)
        for earlier, later in zip(size, next_size, strict=True)
    )


def _halving_or_equal(backbone: Staged) -> bool:
    return all(
        next_size in (size, tuple((side + 1) // 2 for side in size))
        for size, next_size in _steps((*backbone.stage_shapes[:-1], backbone.final_shape))
    )


def _steps(shapes: Sequence[tuple[int, int, int]]) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Height and width of each map, and of the next map."""
    return pairwise((height, width) for _, height, width in shapes)


# For each value of Needs.stages: whether a network has such stages.
_STAGE_RULES: Mapping[str, Callable[[Staged], bool]] = {
    "any": lambda backbone: True,
    "halving": _halving,
    "halving_or_equal": _halving_or_equal,
}


def check_network(method: type[Method], backbone: Staged) -> None:
    """Refuse a network that lacks what a method declares to need.

    Raises: BackboneError: naming what the network lacks, and the methods that work on it.
    """
    lacking = _lacking(method.needs, backbone)
    if lacking is None:
        return
    from selfkd.methods import METHODS

    working = [name for name in METHODS if _lacking(METHODS.load(name).needs, backbone) is None]
    raise BackboneError(f"{method.__name__} {lacking}. Methods that work on it: {', '.join(working)}")


def _lacking(needs: Needs, backbone: Staged) -> str | None:
    """What a network lacks of a method's needs, in words after the method's name; None if it lacks nothing."""
    network = type(backbone.network).__name__
    if not _STAGE_RULES[needs.stages](backbone):
        sizes = ", ".join(f"{height}x{width}" for _, height, width in (*backbone.stage_shapes, backbone.final_shape))
        return f"needs {STAGES_IN_WORDS[needs.stages]}; the stages and the last map of {network} have {sizes} pixels"
    if needs.own_blocks and not backbone.builds_own_blocks:
        return f"needs a {OWN_BLOCKS_IN_WORDS}; {network} cannot; these networks can: {', '.join(BACKBONES)}"
    return None
