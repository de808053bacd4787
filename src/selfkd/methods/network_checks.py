"""Checks that a network meets the needs of a method."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

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
_WORKS = {"network": "on it", "peer": "with this peer"}


def check_network(method: type[Method], network: Staged, role: str = "network") -> None:
    """Refuse a network that lacks what a method declares to need. A peer must have the same.

    Args:
        method: class of the method.
        network: the network that will be deployed, or the peer.
        role: "network" or "peer".
    Raises: BackboneError: naming what the network lacks, and the methods that work with it in this role.
    """
    lacking = _lacking(method.needs, network, role)
    if lacking is None:
        return
    from selfkd.methods import METHODS

    needs = {name: METHODS.load(name).needs for name in METHODS}
    able = [
        name
        for name, each in needs.items()
        if (role == "network" or each.peer) and _lacking(each, network, role) is None
    ]
    raise BackboneError(f"{method.__name__} {lacking}. Methods that work {_WORKS[role]}: {', '.join(able)}")


def _lacking(needs: Needs, staged: Staged, role: str) -> str | None:
    """What a network lacks of a method's needs, in words after the method's name; None if it lacks nothing."""
    network = type(staged.network).__name__
    if not _STAGE_RULES[needs.stages](staged):
        sizes = ", ".join(f"{height}x{width}" for _, height, width in (*staged.stage_shapes, staged.final_shape))
        stages = STAGES_IN_WORDS[needs.stages]
        return f"needs {stages}; the stages and the last map of the {role}, {network}, have {sizes} pixels"
    if needs.own_blocks and not staged.builds_own_blocks:
        return (
            f"needs a {role} {OWN_BLOCKS_IN_WORDS} (Staged.new_stage); {network} cannot; "
            "those of 'selfkd list backbones' can"
        )
    return None
