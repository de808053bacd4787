"""The sections of a recipe, and what each of them chooses or configures; torch is imported with a part, not before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from selfkd.backbones import BACKBONES, TORCHVISION, network_factory, network_target
from selfkd.catalogue import Catalogue, import_target
from selfkd.data import AUGMENTATIONS, DATASETS
from selfkd.methods import METHODS, RESERVED, method_class
from selfkd.supervision import SUPERVISIONS
from selfkd.teachers import TEACHERS
from selfkd.training import OPTIMIZERS, SCHEDULES

__all__ = ["ALWAYS", "CHOSEN", "TEACHER_PREFIX", "Chosen", "override", "part", "part_target", "sections_of"]


@dataclass(frozen=True)
class Chosen:
    """A section whose part is chosen by name.

    Args:
        catalogue: the parts.
        leading: how many leading arguments of a part are no options.
        load: from a part's name to the part.
        target: from a part's name to `module:attribute`, without importing it.
        others: kinds of parts that no table holds: in words, and the name of one; those of a kind share their options.
        reserved: keyword arguments of a part that are no options: other sections give them.
        optional: whether a recipe may do without the section, and then says nothing of it.
    """

    catalogue: Catalogue
    leading: int
    load: Callable[[str], Callable[..., Any]]
    target: Callable[[str], str]
    others: tuple[tuple[str, str], ...] = ()
    reserved: tuple[str, ...] = ()
    optional: bool = False

    @classmethod
    def of(cls, catalogue: Catalogue, leading: int, optional: bool = False) -> Chosen:
        """A section whose parts are all in its table."""
        return cls(catalogue, leading, catalogue.load, catalogue.target, optional=optional)


_NETWORKS = Chosen(
    BACKBONES,
    1,
    network_factory,
    network_target,
    others=(("any timm name", "resnet18"), (f"{TORCHVISION}<name>", f"{TORCHVISION}resnet18")),
)
CHOSEN: Mapping[str, Chosen] = {
    "data": Chosen.of(DATASETS, 0),
    "augmentation": Chosen.of(AUGMENTATIONS, 0),
    "backbone": _NETWORKS,
    "method": Chosen(METHODS, 2, method_class, METHODS.target, reserved=RESERVED),
    "teacher": Chosen.of(TEACHERS, 0, optional=True),
    "peer": replace(_NETWORKS, optional=True),
    "supervision": Chosen.of(SUPERVISIONS, 0, optional=True),
    "optimizer": Chosen.of(OPTIMIZERS, 1),
    "schedule": Chosen.of(SCHEDULES, 3),
}
ALWAYS: Mapping[str, str] = {
    "regularization": "selfkd.data.augmentation.regularization:Regularization",
    "loader": "selfkd.data.loading.batches:LoaderOptions",
    "history": "selfkd.memories.history_options:HistoryOptions",
    "trainer": "selfkd.training.options:TrainerOptions",
}
"""Sections that are always there, with the class of their options."""
TEACHER_PREFIX = "teacher."
"""Begins the options of the section `teacher`, and the keys of the teacher's own recipe."""


def sections_of(parts: Mapping[str, str]) -> tuple[str, ...]:
    """The sections of a recipe, in their order: those whose part it chooses, and those that are always there.

    Args:
        parts: section to the name of what was chosen.
    """
    return (*(section for section in CHOSEN if section in parts), *ALWAYS)


def part(section: str, name: str | None) -> Callable[..., Any]:
    """What a section configures.

    Args:
        section: one of `CHOSEN` or `ALWAYS`.
        name: of the part; None in sections that are always there.
    Raises: UserError: if there is no such part, or somebody's own cannot be imported or used.
    """
    if section in CHOSEN:
        return CHOSEN[section].load(str(name))
    target: Callable[..., Any] = import_target(ALWAYS[section])
    return target


def part_target(section: str, name: str | None) -> str:
    """`module:attribute` of what a section configures, found without importing it.

    Raises: UnknownNameError: if there is no such part.
    """
    return CHOSEN[section].target(str(name)) if section in CHOSEN else ALWAYS[section]


def override(recipe: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's flat keys with others over them, whether a file includes it or a command line names it.

    Options of a part that is replaced by another go with it.
    """
    replaced = {
        section
        for section in CHOSEN
        if section in recipe and section in changes and changes[section] != recipe[section]
    }
    kept = {key: value for key, value in recipe.items() if "." not in key or key.partition(".")[0] not in replaced}
    return {**kept, **changes}
