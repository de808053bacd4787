"""The recipe of a teacher: the keys `teacher.<key>`, and those that it inherits from its student."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from selfkd.backbones.timm_sources import is_timm_name
from selfkd.errors import RecipeError, UserError, shown
from selfkd.recipes.files import read_recipe
from selfkd.recipes.reader import derive, resolve
from selfkd.recipes.recipe import Recipe
from selfkd.recipes.sections import override
from selfkd.teachers.origins import FromFile, FromRecipe, FromTimm, Origin

__all__ = ["naming_the_teacher", "network_recipe", "origin_of", "teachers_first"]

_INHERITED = frozenset({"seed", "data", "augmentation", "loader", "optimizer", "schedule", "trainer"})
"""The seed and the sections that a teacher inherits from its student. `regularization` is not among them: like the
method, it belongs to the teacher's own recipe. teacher.regularization.mixup trains a teacher with mixed images."""
_LONGEST_CHAIN = 32
_PLAIN_NETWORK = {"method": "plain", "supervision": None, "teacher": None, "peer": None}
"""Changes that leave only the network and its data in a recipe."""


def origin_of(student: Recipe) -> Origin:
    """The origin of the teacher. The recipe must have one."""
    origin: Origin = student.build("teacher")
    return origin


def teachers_first(student: Recipe, trust_imports: bool = False) -> list[Recipe]:
    """The teachers that must be trained before a recipe, in the order of training: the last is its own teacher.

    Args:
        student: the recipe.
        trust_imports: whether a teacher's recipe file may name `package.module:Name`, whose import runs code.
    Raises: UserError: if a teacher's recipe cannot be resolved, or teacher and student would share a run folder.
    """
    chain = [student]
    while "teacher" in chain[0].parts and isinstance(origin := origin_of(chain[0]), FromRecipe):
        teacher = _trained_recipe(chain[0], origin, trust_imports)
        if any((recipe.name, recipe.seed) == (teacher.name, teacher.seed) for recipe in chain):
            runs = " -> ".join(f"{recipe.name} seed {recipe.seed}" for recipe in (*reversed(chain), teacher))
            raise RecipeError(
                f"teacher and student would share one run folder: {runs}; a recipe cannot be its own teacher, and "
                "another teacher needs another name or seed: set teacher.name=... or teacher.seed=..."
            )
        if len(chain) > _LONGEST_CHAIN:
            raise RecipeError(
                f"more than {_LONGEST_CHAIN} teachers must be trained, each for the next; use fewer, or a finished run"
            )
        chain.insert(0, teacher)
    return chain[:-1]


def network_recipe(student: Recipe, origin: FromFile | FromTimm) -> Recipe:
    """A recipe whose backbone is the teacher's network, and whose `data` has the normalisation of its images.

    Args:
        student: the student's recipe; it gives all values that are not set for the teacher.
        origin: the teacher's origin.
    Raises: UserError: if the recipe names no network for the teacher, or an option is not allowed.
    """
    changes: dict[str, Any] = {**_PLAIN_NETWORK, **student.of_teacher}
    # The file that the student starts from is not the teacher's.
    dropped = set() if student.file_of_weights("backbone") is None else {"backbone.weights"}
    meaning = "the network whose weights the file holds"
    if isinstance(origin, FromTimm):
        changes["backbone.pretrained"] = True
        dropped |= {"data.mean", "data.std"}  # the weights give these
        meaning = "timm's name of the network"
    if "backbone" not in student.of_teacher:
        raise RecipeError(f"teacher={student.parts['teacher']} needs teacher.backbone=<name>, {meaning}")
    name = student.of_teacher["backbone"]
    if isinstance(origin, FromTimm) and not is_timm_name(name):
        raise RecipeError(f"teacher.backbone={shown(name)} is not allowed; with teacher=timm it must be {meaning}")
    with naming_the_teacher():
        recipe = derive(student, changes, dropped)
    if (file := recipe.file_of_weights("backbone")) is not None:
        raise RecipeError(
            f"teacher.backbone.weights={shown(str(file))} has no meaning with teacher={student.parts['teacher']}, "
            "which gives the network's weights itself"
        )
    return recipe


def _trained_recipe(student: Recipe, origin: FromRecipe, trust_imports: bool) -> Recipe:
    with naming_the_teacher():
        given = read_recipe(str(origin.recipe))
        inherited = {key: value for key, value in student.flat().items() if key.partition(".")[0] in _INHERITED}
        if student.of_teacher.get("backbone", given.get("backbone")) == student.parts["backbone"]:
            inherited |= {f"backbone.{option}": value for option, value in student.options["backbone"].items()}
        if student.of_teacher.get("trainer.freeze") == "0":
            del inherited["trainer.freeze_epochs"]  # of a part that the teacher does not freeze
        changes = override(inherited, student.of_teacher)
        return resolve(str(origin.recipe), changes, trust_imports).with_given_of(student)


@contextmanager
def naming_the_teacher() -> Iterator[None]:
    """Add to an error's message that it is about the teacher's recipe."""
    try:
        yield
    except UserError as error:
        raise RecipeError(f"the teacher's recipe: {error}") from error
