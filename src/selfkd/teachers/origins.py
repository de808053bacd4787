"""Where a teacher comes from: the options of a recipe's section `teacher`, by the name chosen there.

Beside them, `teacher.<key>` sets a key of the teacher's own recipe, as far as `Origin.takes` it.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import ClassVar, Literal

from selfkd.errors import OptionError
from selfkd.option_checks import one_of

__all__ = ["FromFile", "FromRecipe", "FromRun", "FromTimm", "Origin"]

_WEIGHTS = ("last", "best")


class Origin:
    """Where a teacher comes from.

    Attributes:
        keys: of the teacher's own recipe that `teacher.<key>` may set, as patterns; None for every key of it.
        fixed: those among them that where it comes from decides.
    """

    keys: ClassVar[tuple[str, ...] | None] = ()
    fixed: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def takes(cls, key: str) -> bool:
        """Whether `teacher.<key>` has a meaning."""
        return cls.keys is None or (key not in cls.fixed and any(fnmatchcase(key, each) for each in cls.keys))


@dataclass(frozen=True, kw_only=True)
class FromRecipe(Origin):
    """The run of a recipe, in the same folder of runs, which is trained first or continued unless it is finished.

    Seed, data, loader, augmentation, optimizer, schedule and trainer are the student's, and the options of the backbone
    too if it is the same network; teacher.<key> sets what is to differ, as in teacher.backbone.width=16.

    Args:
        recipe: its name, or the path of a YAML file.
        weights: of its last epoch, or of its best.
    Raises: OptionError: if no recipe is named, or there are no such weights.
    """

    recipe: str | None = None
    weights: Literal["last", "best"] = "last"
    keys: ClassVar[tuple[str, ...] | None] = None

    def __post_init__(self) -> None:
        _given("teacher.recipe", self.recipe, "the name of a recipe, or the path of a YAML file")
        one_of("teacher.weights", self.weights, _WEIGHTS)


@dataclass(frozen=True, kw_only=True)
class FromRun(Origin):
    """A finished run.

    Args:
        path: its folder.
        weights: of its last epoch, or of its best.
    Raises: OptionError: if no folder is named, or there are no such weights.
    """

    path: str | None = None
    weights: Literal["last", "best"] = "last"

    def __post_init__(self) -> None:
        _given("teacher.path", self.path, "the folder of a finished run")
        one_of("teacher.weights", self.weights, _WEIGHTS)


@dataclass(frozen=True, kw_only=True)
class FromFile(Origin):
    """A file of weights of the network teacher.backbone=<name>, whose options are teacher.backbone.<option>.

    Its images are normalised as the student's, unless teacher.data.mean and teacher.data.std say otherwise.

    Args:
        path: the file, *.safetensors, or a state dict that torch has saved.
    Raises: OptionError: if no file is named.
    """

    path: str | None = None
    keys: ClassVar[tuple[str, ...] | None] = ("backbone", "backbone.*", "data.mean", "data.std")
    fixed: ClassVar[tuple[str, ...]] = ("backbone.pretrained",)

    def __post_init__(self) -> None:
        _given("teacher.path", self.path, "a file of weights")


@dataclass(frozen=True, kw_only=True)
class FromTimm(Origin):
    """The network teacher.backbone=<timm name> with its published weights and classes.

    Its images are normalised as the weights expect.
    """

    keys: ClassVar[tuple[str, ...] | None] = ("backbone", "backbone.*")
    fixed: ClassVar[tuple[str, ...]] = ("backbone.pretrained",)


def _given(option: str, value: str | None, meaning: str) -> None:
    if value is None or not value.strip():
        raise OptionError(option, value, meaning)
