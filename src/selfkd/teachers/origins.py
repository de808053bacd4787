"""Where a teacher comes from: the options of a recipe's section `teacher`, one class for each value of `teacher`.

`teacher.<key>` also sets a key of the teacher's own recipe, if `Origin.takes` allows it.
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
        keys: patterns of the keys of the teacher's own recipe that `teacher.<key>` may set; None for every key.
        fixed: keys among them that cannot be set, because the origin sets them.
    """

    keys: ClassVar[tuple[str, ...] | None] = ()
    fixed: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def takes(cls, key: str) -> bool:
        """Whether `teacher.<key>` may be set."""
        return cls.keys is None or (key not in cls.fixed and any(fnmatchcase(key, each) for each in cls.keys))


@dataclass(frozen=True, kw_only=True)
class FromRecipe(Origin):
    """The run of a recipe in the same folder of runs. It is trained first, or continued, if it is not finished.

    Seed, data, loader, augmentation, optimizer, schedule and trainer are the student's. So are the options of the
    backbone if it is the same network. teacher.<key> sets what differs, for example teacher.backbone.width=16.

    Args:
        recipe: name of the recipe, or path of a YAML file.
        weights: "last" takes the weights of the last epoch, "best" those of the best epoch.
    Raises: OptionError: if `recipe` is missing, or `weights` is not allowed.
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
        path: folder of the run.
        weights: "last" takes the weights of the last epoch, "best" those of the best epoch.
    Raises: OptionError: if `path` is missing, or `weights` is not allowed.
    """

    path: str | None = None
    weights: Literal["last", "best"] = "last"

    def __post_init__(self) -> None:
        _given("teacher.path", self.path, "the folder of a finished run")
        one_of("teacher.weights", self.weights, _WEIGHTS)


@dataclass(frozen=True, kw_only=True)
class FromFile(Origin):
    """A file of weights for the network teacher.backbone=<name>, whose options are teacher.backbone.<option>.

    Its images are normalised like the student's, unless teacher.data.mean and teacher.data.std are set.

    Args:
        path: path of the file: *.safetensors, or a state dict that torch saved, as for backbone.weights. It must have
            all of the network's weights, the classifier among them.
    Raises: OptionError: if `path` is missing.
    """

    path: str | None = None
    keys: ClassVar[tuple[str, ...] | None] = ("backbone", "backbone.*", "data.mean", "data.std")
    fixed: ClassVar[tuple[str, ...]] = ("backbone.pretrained",)

    def __post_init__(self) -> None:
        _given("teacher.path", self.path, "a file of weights")


@dataclass(frozen=True, kw_only=True)
class FromTimm(Origin):
    """The network teacher.backbone=<timm name> with its published weights and classes.

    Its images are normalised as these weights need it.
    """

    keys: ClassVar[tuple[str, ...] | None] = ("backbone", "backbone.*")
    fixed: ClassVar[tuple[str, ...]] = ("backbone.pretrained",)


def _given(option: str, value: str | None, meaning: str) -> None:
    if value is None or not value.strip():
        raise OptionError(option, value, meaning)
