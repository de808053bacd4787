"""The sections of a recipe, and the part that each configures. torch is imported only with a part."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from selfkd.backbones import BACKBONES, TORCHVISION, network_factory, network_target
from selfkd.catalogue import Catalogue, import_target
from selfkd.data import AUGMENTATIONS, DATASETS, shared_options, source_class, source_target
from selfkd.methods import METHODS, RESERVED, method_class
from selfkd.supervision import SUPERVISIONS
from selfkd.teachers import TEACHERS
from selfkd.training import OPTIMIZERS, SCHEDULES

__all__ = [
    "ALWAYS",
    "CHOSEN",
    "FOLLOWING",
    "TEACHER_PREFIX",
    "Chosen",
    "follows_again",
    "override",
    "part",
    "part_target",
    "sections_of",
]


@dataclass(frozen=True)
class Chosen:
    """A section whose part is chosen by name.

    Args:
        catalogue: the table of the parts.
        leading: number of a part's leading arguments, which are not options.
        load: gives the part of a name.
        target: gives the `module:attribute` of a name, without an import.
        others: kinds of parts that the table lacks, each as a description and one name. All parts of a kind have the
            same options.
        reserved: keyword arguments of a part that are not options: other sections or a Python caller give their values.
        optional: whether a recipe may omit the section.
        common: `module:attribute` of the class with the options that the section adds to those of every part. A part of
            the user's own that has an option of the same name keeps its own.
        shared: gives the options that a recipe keeps when one part replaces another, from the names of both.
    """

    catalogue: Catalogue
    leading: int
    load: Callable[[str], Callable[..., Any]]
    target: Callable[[str], str]
    others: tuple[tuple[str, str], ...] = ()
    reserved: tuple[str, ...] = ()
    optional: bool = False
    common: str | None = None
    shared: Callable[[str, str], Collection[str]] = lambda _before, _after: ()

    @classmethod
    def of(cls, catalogue: Catalogue, leading: int, optional: bool = False, common: str | None = None) -> Chosen:
        """A section whose parts are all in its table."""
        return cls(catalogue, leading, catalogue.load, catalogue.target, optional=optional, common=common)


_NETWORKS = Chosen(
    BACKBONES,
    1,
    network_factory,
    network_target,
    others=(("any timm name", "resnet18"), (f"{TORCHVISION}<name>", f"{TORCHVISION}resnet18")),
    common="selfkd.backbones.network_options:NetworkOptions",
)
CHOSEN: Mapping[str, Chosen] = {
    "data": Chosen(DATASETS, 0, source_class, source_target, reserved=("given",), shared=shared_options),
    "augmentation": Chosen.of(AUGMENTATIONS, 0),
    "backbone": _NETWORKS,
    "method": Chosen(METHODS, 2, method_class, METHODS.target, reserved=RESERVED),
    "teacher": Chosen.of(TEACHERS, 0, optional=True),
    "peer": replace(_NETWORKS, optional=True),
    "supervision": Chosen.of(SUPERVISIONS, 0, optional=True),
    "optimizer": Chosen.of(OPTIMIZERS, 1, common="selfkd.training.learning_rates:LearningRates"),
    "schedule": Chosen.of(SCHEDULES, 3),
}
ALWAYS: Mapping[str, str] = {
    "regularization": "selfkd.data.augmentation.regularization:Regularization",
    "loader": "selfkd.data.loading.batches:LoaderOptions",
    "history": "selfkd.memories.history_options:HistoryOptions",
    "trainer": "selfkd.training.options:TrainerOptions",
}
"""The sections without a choice, which every recipe has, and the class of their options."""
TEACHER_PREFIX = "teacher."
"""The prefix of the options of the section `teacher`, and of the keys of the teacher's recipe."""
FOLLOWING = "following"
"""The key under which a resolved recipe lists the keys whose values follow other options; see `Recipe.following`."""

# What other options follow, beside the section `backbone`: images are prepared as its weights expect it, random crops
# have the size of the images, and a peer has the options of the backbone.
_FOLLOWED = frozenset({"data", "data.image_size", "data.mean", "data.std", "method"})


def sections_of(parts: Mapping[str, str]) -> tuple[str, ...]:
    """The sections of a recipe, in their order: those with a chosen part, then those of `ALWAYS`.

    Args:
        parts: section to the name of the chosen part.
    """
    return (*(section for section in CHOSEN if section in parts), *ALWAYS)


def part(section: str, name: str | None) -> Callable[..., Any]:
    """Import the class or function that a section configures.

    Args:
        section: one of `CHOSEN` or `ALWAYS`.
        name: name of the part; None for a section of `ALWAYS`.
    Raises: UserError: if there is no such part, or a custom part cannot be imported or used.
    """
    if section in CHOSEN:
        return CHOSEN[section].load(str(name))
    target: Callable[..., Any] = import_target(ALWAYS[section])
    return target


def part_target(section: str, name: str | None) -> str:
    """The `module:attribute` of the class or function that a section configures. It is not imported.

    Raises: UnknownNameError: if there is no such part.
    """
    return CHOSEN[section].target(str(name)) if section in CHOSEN else ALWAYS[section]


def override(recipe: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The flat keys of a recipe with changes, which come from a command line or from a file that includes the recipe.

    A change that replaces a part also drops the options that the recipe gave to the old part, except those that both
    parts share. Of a resolved recipe, a change of what other options follow also drops these options, so that they
    follow again.
    """
    shared = {
        section: chosen.shared(str(recipe[section]), str(changes[section]))
        for section, chosen in CHOSEN.items()
        if section in recipe and section in changes and changes[section] != recipe[section]
    }
    following = set(recipe.get(FOLLOWING, ()))
    again = following if follows_again(recipe, changes) else set()

    def stays(key: str) -> bool:
        section, _, option = key.partition(".")
        return key not in again and (not option or section not in shared or option in shared[section])

    kept = {key: value for key, value in recipe.items() if stays(key)}
    result = {**kept, **changes}
    following = (following & kept.keys()).difference(changes).union(changes.get(FOLLOWING, ()))
    if following:
        result[FOLLOWING] = sorted(following)
    else:
        result.pop(FOLLOWING, None)
    return result


def follows_again(recipe: Mapping[str, Any], changes: Mapping[str, Any]) -> bool:
    """Whether changes of a recipe's flat keys change what other options follow."""
    return any(
        (key in _FOLLOWED or key.partition(".")[0] == "backbone") and (key not in recipe or recipe[key] != value)
        for key, value in changes.items()
    )
