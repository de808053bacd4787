"""A resolved recipe, and the keys of it that belong to the experiment."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from selfkd.catalogue import import_target, is_own, place_of
from selfkd.errors import OptionError, RecipeError, SelfKDError, UserError, shown
from selfkd.recipes.part_options import common_options
from selfkd.recipes.sections import CHOSEN, FOLLOWING, TEACHER_PREFIX, part, sections_of

__all__ = ["MACHINE", "WEIGHTS", "WITHOUT_EFFECT", "Recipe", "changeable", "differences", "is_of_machine"]

WEIGHTS = ("backbone.weights", "peer.weights")
"""Files of weights. Their names without folder and ending belong to a run's name, and their checksums identify them."""

# Options of the machine do not belong to the experiment: they change neither the name of a run nor its identity.
MACHINE = frozenset(
    {
        "data.root",
        "data.image_root",
        "data.download",
        "data.memory_gb",
        "loader.workers",
        "loader.evaluation_batch_size",
        "loader.device_share",
        "history.storage",
        "teacher.path",
        "trainer.devices",
        "trainer.threads",
        "trainer.num_nodes",
        "trainer.compile",
        "trainer.checkpoint_every",
        *WEIGHTS,
    }
)

# They name a run, as every option outside MACHINE does, but leave its batches and its steps as they are.
WITHOUT_EFFECT = frozenset({"trainer.accelerator", "trainer.guard_every", "trainer.loggers"})


@dataclass(frozen=True)
class Recipe:
    """A resolved recipe: every option has its value.

    Args:
        name: the recipe's name with its overrides; it is also the name of the run's folder.
        seed: the seed of all random numbers.
        parts: section to the name of the chosen part ("method" to "dtskd").
        options: section to its options, as keyword arguments.
        published: the figure that the recipe reproduces; empty if there is none.
        of_teacher: the keys of the teacher's recipe, without their prefix `teacher.`, and their values as texts.
        given: section to the object that a Python caller passed to it: the Dataset of `data=dataset`. No file holds it,
            and it belongs to this process alone.
        following: flat keys that nobody gave and whose values follow other options. How images are prepared follows the
            weights of the backbone, the size of random crops follows that of the images, and the peer follows the
            backbone. If what they follow changes, these values change with it.
        undecided: flat keys whose values a file of weights would give that is gone. A run that has begun knows them.
    """

    name: str
    seed: int
    parts: Mapping[str, str]
    options: Mapping[str, Mapping[str, Any]]
    published: Mapping[str, Any] = field(default_factory=dict)
    of_teacher: Mapping[str, str] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    following: frozenset[str] = field(default=frozenset(), compare=False)
    undecided: frozenset[str] = field(default=frozenset(), compare=False)

    def flat(self) -> dict[str, Any]:
        """The whole recipe as the flat keys of a recipe file."""
        result: dict[str, Any] = {"name": self.name, "seed": self.seed}
        for section in sections_of(self.parts):
            if section in self.parts:
                result[section] = self.parts[section]
            for option, value in self.options[section].items():
                result[f"{section}.{option}"] = list(value) if isinstance(value, tuple) else value
        result |= {f"{TEACHER_PREFIX}{key}": value for key, value in self.of_teacher.items()}
        if self.published:
            result["published"] = dict(self.published)
        return result

    def to_yaml(self) -> str:
        """The text of a recipe file that resolves to this recipe."""
        return yaml.safe_dump(self.stored(), sort_keys=False, allow_unicode=True)

    def stored(self) -> dict[str, Any]:
        """The flat keys of the recipe file: those of `flat`, and the list of those that follow others."""
        return self.flat() | ({FOLLOWING: sorted(self.following)} if self.following else {})

    def build(self, section: str, /, *arguments: Any, **others: Any) -> Any:
        """Build the part of a section with the recipe's options; `partial(recipe.build, "optimizer")` is a factory.

        Options that the section adds to every part are left out: see `common`.

        Args:
            section: a section of the recipe.
            arguments: the part's arguments before its options: K for a network, the parameters for an optimiser.
            others: keyword arguments that are added to the options, or replace some.
        Raises: UserError: if an option is not allowed, or a custom part fails; the message says where.
        """
        options = self.options[section]
        if (name := self.parts.get(section)) is not None:
            added = common_options(section, name)
            options = {option: value for option, value in options.items() if f"{section}.{option}" not in added}
        given = {"given": self.given[section]} if section in self.given else {}
        return self._built(section, self.target(section), *arguments, **{**options, **given, **others})

    def common(self, section: str) -> Any:
        """Build the options that a section adds to every part: `NetworkOptions` for "backbone" and "peer".

        Args:
            section: a section of the recipe that adds options.
        Raises: UserError: if a value is not allowed.
        """
        added = common_options(section, self.parts[section])
        options = {key.rpartition(".")[2]: self.options[section][key.rpartition(".")[2]] for key in added}
        return self._built(section, import_target(str(CHOSEN[section].common)), **options)

    def file_of_weights(self, section: str) -> Path | None:
        """The file that a network starts from; None without one, and if a custom network reads its file itself.

        Args:
            section: "backbone" or "peer".
        """
        file = self.common(section).weights if section in self.parts else None
        return None if file is None else Path(file)

    def _built(self, section: str, target: Callable[..., Any], /, *arguments: Any, **options: Any) -> Any:
        try:
            return target(*arguments, **options)
        except OptionError as error:
            if "." in error.option:
                raise
            raise error.renamed(f"{section}.{error.option}") from error

    def target(self, section: str) -> Callable[..., Any]:
        """The class or function of a section. A custom one raises a `UserError` for every error in it."""
        name = self.parts.get(section)
        target = part(section, name)
        return _reporting_errors(f"{section} {name!r}", target) if name is not None and is_own(name) else target

    def with_given_of(self, other: Recipe) -> Recipe:
        """The same recipe with another one's objects of a Python caller, in the sections in which the parts agree."""
        given = {key: each for key, each in other.given.items() if self.parts.get(key) == other.parts.get(key)}
        return replace(self, given=given)

    def check_sendable(self, why: str) -> None:
        """Refuse objects of a Python caller where other processes train, because no other process has them.

        Args:
            why: why other processes train, in words.
        Raises: RecipeError: if the recipe has such objects.
        """
        if self.given:
            raise RecipeError(
                f"a Dataset object is in the memory of this process alone, but {why}; name a class or function that "
                "gives the Dataset instead, data=package.module:Class"
            )

    def with_seed(self, seed: int) -> Recipe:
        """The same recipe with another seed."""
        return replace(self, seed=seed)


def is_of_machine(key: str, parts: Mapping[str, Any] | None = None) -> bool:
    """Whether a flat key of a recipe, or of its teacher's recipe, belongs to the machine and not to the experiment.

    Args:
        key: the flat key.
        parts: section to the name of the chosen part; the flat keys of a resolved recipe have them, too. If a part of
            the user's own has an option with the name of one that its section adds, that option belongs to the
            experiment.
    """
    if key not in MACHINE:
        return key.startswith(TEACHER_PREFIX) and is_of_machine(key.removeprefix(TEACHER_PREFIX))
    section = key.partition(".")[0]
    name = (parts or {}).get(section)
    is_own_part = isinstance(name, str) and is_own(name) and CHOSEN[section].common is not None
    return not is_own_part or key in common_options(section, name)


def changeable(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Those of flat keys that may change in a run that exists: options of the machine, without files of weights.

    A file of weights is read only before the first epoch.
    """
    return {key: value for key, value in flat.items() if is_of_machine(key) and not key.endswith(WEIGHTS)}


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The keys in which two experiments differ, with both values. Options of the machine do not count.

    Args:
        before: the flat keys of one experiment.
        after: the flat keys of the other, whose parts are imported.
    """
    others = {"published", FOLLOWING}
    keys = [key for key in dict.fromkeys((*before, *after)) if not is_of_machine(key, after) and key not in others]
    return [
        f"{key}: {shown(before.get(key))} there, {shown(after.get(key))} now"
        for key in keys
        if before.get(key) != after.get(key)
    ]


def _reporting_errors(subject: str, factory: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a custom part: an error in it becomes a `UserError` that names the part, the file and the line."""

    @functools.wraps(factory)
    def build(*arguments: Any, **options: Any) -> Any:
        try:
            return factory(*arguments, **options)
        except SelfKDError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}{place_of(error.__traceback__)}"
            raise UserError(f"{subject} raised {reason}") from error

    return build
