"""`data=package.module:Name`: a user's own class of `Source`, or a class or function that gives torch Datasets."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Any, ClassVar

from selfkd.catalogue import place_of
from selfkd.data.sources.base import Source
from selfkd.data.sources.datasets import DatasetObjects
from selfkd.errors import DataError, SelfKDError, UserError, shown

__all__ = ["source_of"]

_TRAIN, _SPLIT = "train", "split"
_PLAIN = (bool, int, float, str, type(None))
_GIVES = "a class or function that gives a torch Dataset of pairs (image, label), or a mapping from splits to such ones"


@dataclass(frozen=True, kw_only=True)
class _CalledDatasets(DatasetObjects):
    """The Datasets that a user's class or function gives. A subclass has the options of one of them as its fields."""

    _name: ClassVar[str]
    """`package.module:Name`."""
    _target: ClassVar[Callable[..., Any]]
    """The user's class or function."""
    _paths: ClassVar[frozenset[str]]
    """The options that it takes as a `Path`."""
    _options: ClassVar[tuple[str, ...]]
    """The names of all its options."""
    _chosen_by: ClassVar[str | None]
    """The argument that chooses a split, `train` or `split`; None if there is none."""

    def datasets(self) -> Any:
        if self._chosen_by == _TRAIN:
            self._refuse_split_names(f"{self._name} gives the splits train and test alone, by its argument train")
            return {"train": self._called(train=True), "test": self._called(train=False)}
        if self._chosen_by == _SPLIT:
            splits = [self.train_split or "train", self.test_split or "test"]
            return {split: self._called(split=split) for split in splits}
        return self._called()

    def _called(self, **choice: object) -> Any:
        """What the user's class or function gives.

        Raises: DataError: if it fails, with the reason and its line.
        """
        options = {name: getattr(self, name) for name in self._options}
        paths = {name: Path(options[name]) for name in self._paths if options[name] is not None}
        try:
            return type(self)._target(**{**options, **paths, **choice})
        except SelfKDError:
            raise
        except (Exception, SystemExit) as error:  # somebody's code may fail in any way
            called = f" with {', '.join(f'{name}={shown(value)}' for name, value in choice.items())}" if choice else ""
            reason = f"{type(error).__name__}: {error}{place_of(error.__traceback__)}"
            raise DataError(f"data {self._name!r}{called} raised {reason}") from error


def source_of(name: str, target: Any) -> type[Source]:
    """The data set of a user's own class or function.

    A class of `Source` is the data set itself. Another class or function gives Datasets, as `DatasetObjects` takes
    them; its arguments are options beside those of `DatasetObjects`. If it takes `train: bool`, it is called with True
    and False; if it takes `split`, with the names of the training and the test split. Arguments that a recipe cannot
    hold, such as functions, keep their defaults.

    Args:
        name: its name, `package.module:Name`.
        target: the class or function.
    Raises: UserError: if it is something else, or its arguments cannot be options.
    """
    if isinstance(target, type) and issubclass(target, Source):
        if inspect.isabstract(target):
            missing = ", ".join(f"{each}()" for each in sorted(target.__abstractmethods__))
            raise UserError(f"data {name!r} is abstract: it does not define {missing}; name a class that does")
        return target
    if not callable(target) or not isinstance(target, Hashable):  # the cache needs its hash
        raise UserError(f"data {name!r} is {shown(target)}; it must be a class of selfkd's Source, or {_GIVES}")
    return _class_of(name, target)


@functools.cache
def _class_of(name: str, target: Callable[..., Any]) -> type[_CalledDatasets]:
    """The data set whose options are the arguments of a class or function that gives Datasets."""
    parameters = _parameters(name, target)
    chosen_by = _choosing(parameters)
    options, paths = [], set()
    for option, parameter in parameters.items():
        if option == chosen_by or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.kind is parameter.POSITIONAL_ONLY or not _is_plain(parameter):
            if parameter.default is parameter.empty:
                raise UserError(f"data {name!r} needs the argument {option}, which a recipe cannot give; name {_GIVES}")
            continue
        if hasattr(_CalledDatasets, option):
            raise UserError(
                f"data {name!r} has the argument {option}, a name that every data set uses itself; give the argument "
                "another name"
            )
        is_typed = not isinstance(parameter.annotation, str) and parameter.annotation is not parameter.empty
        kind = parameter.annotation if is_typed else Any
        if _is_path(kind):
            paths.add(option)
            kind = str | None if parameter.default is None else str
        default = str(parameter.default) if isinstance(parameter.default, Path) else parameter.default
        options.append((option, kind) if default is parameter.empty else (option, kind, field(default=default)))
    namespace = {
        "__doc__": inspect.getdoc(target),
        "_name": name,
        "_target": staticmethod(target),
        "_paths": frozenset(paths),
        "_options": tuple(option[0] for option in options),
        "_chosen_by": chosen_by,
    }
    named = getattr(target, "__name__", "OwnDataset")
    return make_dataclass(named, options, bases=(_CalledDatasets,), namespace=namespace, frozen=True, kw_only=True)


def _parameters(name: str, target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The arguments of a user's class or function. Annotations that only a type checker can read stay texts.

    Raises: UserError: if Python does not know them, as of some functions in C.
    """
    try:
        try:
            return inspect.signature(target, eval_str=True).parameters
        except (NameError, SyntaxError, AttributeError, TypeError):
            return inspect.signature(target).parameters
    except ValueError as error:
        raise UserError(f"data {name!r} does not tell its arguments; name {_GIVES}") from error


def _choosing(parameters: Mapping[str, inspect.Parameter]) -> str | None:
    """The argument that chooses a split."""
    train = parameters.get(_TRAIN)
    if train is not None and train.annotation in (bool, "bool", train.empty) and _is_plain(train):
        return _TRAIN
    return _SPLIT if _SPLIT in parameters else None


def _is_plain(parameter: inspect.Parameter) -> bool:
    """Whether a recipe can hold the values of an argument: numbers, texts, paths, and tuples of these."""
    if "Callable" in str(parameter.annotation):
        return False
    members = parameter.default if isinstance(parameter.default, tuple) else (parameter.default,)
    return all(each is parameter.empty or isinstance(each, (*_PLAIN, Path)) for each in members)


def _is_path(kind: Any) -> bool:
    """Whether an argument takes paths and no texts."""
    members = set(typing.get_args(kind)) if typing.get_origin(kind) in (typing.Union, types.UnionType) else {kind}
    return Path in members and str not in members
