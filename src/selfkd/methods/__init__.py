"""The methods, by name. One line each; nothing here imports torch until a method is asked for."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from selfkd.catalogue import Catalogue, Entry
from selfkd.errors import OptionError, UserError, shown

if TYPE_CHECKING:
    from selfkd.backbones.staged import Staged
    from selfkd.contract import DatasetInfo
    from selfkd.methods.base import Method

__all__ = ["METHODS", "RESERVED", "check_reserved", "create_method", "method_class"]

RESERVED = ("teacher", "peer", "supervision")
"""Keyword arguments of a method that are no options of it: optional sections of a recipe have the same names."""

METHODS = Catalogue(
    "method",
    {
        "plain": Entry("selfkd.methods.plain:Plain", "cross-entropy with the labels; the yardstick"),
        "label_smoothing": Entry(
            "selfkd.methods.label_smoothing:LabelSmoothing", "labels mixed with the uniform distribution (2016)"
        ),
        "ps_kd": Entry("selfkd.methods.ps_kd:PSKD", "labels softened by the network's own last epoch (ICCV 2021)"),
        "teskd": Entry("selfkd.methods.teskd:TESKD", "students on its own stages help it to evolve (2021)"),
        "dtskd": Entry("selfkd.methods.dtskd:DTSKD", "its own past and its deepest classifier as dual teachers"),
        "loth": Entry("selfkd.methods.loth:LOTH", "its exits and a virtual teacher fused from them teach each other"),
        "kd": Entry("selfkd.methods.kd:KD", "a trained network's softened predictions teach it (2015)"),
        "dml": Entry("selfkd.methods.dml:DML", "it and a second network learn from each other (CVPR 2018)"),
    },
    listing="'selfkd list methods' shows all",
    takes_own=True,
)


def method_class(name: str) -> type[Method]:
    """The class of a method by name.

    Raises:
        UnknownNameError: if there is no such method.
        UserError: if somebody's own cannot be imported, is no `Method`, or leaves a part of one open.
    """
    from selfkd.methods.base import Method

    method = METHODS.load(name)
    if not (isinstance(method, type) and issubclass(method, Method)):
        raise UserError(f"method {name!r} is {shown(method)}; it must be a class of selfkd.Method")
    if inspect.isabstract(method):
        missing = ", ".join(f"{each}()" for each in sorted(method.__abstractmethods__))
        raise UserError(f"method {name!r} is abstract: it does not define {missing}; name a class that does")
    return method


def check_reserved(
    name: str, method: type[Method], given: Iterable[str], remedies: Mapping[str, str] | None = None
) -> None:
    """Refuse what a method does not take.

    Args:
        name: of the method.
        method: its class.
        given: those of `RESERVED` that it is to be built with.
        remedies: by keyword, what the message says to do.
    Raises: UserError: saying why.
    """
    for keyword in given:
        if keyword not in inspect.signature(method).parameters:
            reason = method.refused.get(keyword, f"its class has no keyword argument {keyword}")
            remedy = f"; {remedies[keyword]}" if remedies and keyword in remedies else ""
            raise UserError(f"method {name!r} takes no {keyword}: {reason}{remedy}")


def create_method(name: str, backbone: Staged, data: DatasetInfo, **hyper_parameters: Any) -> Method:
    """Build a method by name.

    Args:
        name: one of `METHODS`, or `package.module:Class` for your own.
        backbone: the staged network that will be deployed.
        data: what is known of the training set.
        hyper_parameters: keyword arguments of the method's class, those of `RESERVED` that it takes among them: a
            `selfkd.Teacher` as `teacher`, a second staged network as `peer`.
    Raises:
        UnknownNameError: if there is no such method.
        UserError: if the method takes no supervision, teacher or peer that it is given.
        OptionError: if the method has no such option, a value is out of range, or its teacher or peer is missing.
    """
    method = method_class(name)
    check_reserved(name, method, [keyword for keyword in RESERVED if keyword in hyper_parameters])
    # A second network that is needed and not given is for the method itself to refuse, which says what it is.
    needed = {keyword: None for keyword in ("teacher", "peer") if getattr(method.needs, keyword)}
    arguments = {**needed, **hyper_parameters}
    try:
        inspect.signature(method).bind(backbone, data, **arguments)
    except TypeError as error:
        raise OptionError(f"method {name!r}", tuple(hyper_parameters), f"given options that exist: {error}") from error
    return method(backbone, data, **arguments)
