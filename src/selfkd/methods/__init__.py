"""The methods, by name, one line each. Imports torch only when a method is loaded."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from selfkd.catalogue import Catalogue, Entry
from selfkd.errors import UserError, shown
from selfkd.methods.not_specifiable import NOT_SPECIFIABLE
from selfkd.option_checks import check_arguments

if TYPE_CHECKING:
    from selfkd.backbones.staged import Staged
    from selfkd.contract import DatasetInfo
    from selfkd.methods.base import Method

__all__ = ["METHODS", "RESERVED", "check_reserved", "create_method", "method_class"]

RESERVED = ("teacher", "peer", "supervision")
"""Keyword arguments of a method that are not options: sections of a recipe with the same names give them."""

# A summary ends with the year of the publication, if it has one.
METHODS = Catalogue(
    "method",
    {
        "plain": Entry("selfkd.methods.plain:Plain", "cross-entropy with the labels; the baseline"),
        "label_smoothing": Entry(
            "selfkd.methods.label_smoothing:LabelSmoothing", "labels mixed with the uniform distribution (2016)"
        ),
        "ps_kd": Entry("selfkd.methods.ps_kd:PSKD", "labels mixed with the network's own last predictions (2021)"),
        "teskd": Entry(
            "selfkd.methods.teskd:TESKD", "students on its stages learn from the network and improve it (2021)"
        ),
        "dtskd": Entry(
            "selfkd.methods.dtskd:DTSKD", "heads learn from their own past, branches also from the main head"
        ),
        "loth": Entry("selfkd.methods.loth:LOTH", "exits and a virtual teacher fused from them teach each other"),
        "byot": Entry(
            "selfkd.methods.byot:BYOT", "exits on its stages learn from the network's logits and feature (2019)"
        ),
        "ecsd": Entry(
            "selfkd.methods.ecsd:ECSD", "light exits with attention learn from the network's logits and feature (2022)"
        ),
        "beed": Entry("selfkd.methods.beed:BEED", "an ensemble of the network and its exits teaches them all (2022)"),
        "dks": Entry("selfkd.methods.dks:DKS", "the network and two branches of its blocks teach each other (2019)"),
        "frskd": Entry("selfkd.methods.frskd:FRSKD", "a self-teacher refines the network's maps and teaches it (2021)"),
        "one": Entry("selfkd.methods.one:ONE", "copies of its last stage learn from their gated ensemble (2018)"),
        "okddip": Entry(
            "selfkd.methods.okddip:OKDDip", "a leader learns from peers, which are copies of its last stage (2020)"
        ),
        "dcm": Entry("selfkd.methods.dcm:DCM", "DKS's branches on two networks, which teach each other (2020)"),
        "ahbf": Entry(
            "selfkd.methods.ahbf:AHBF", "deeper branches are fused step by step; a fusion teaches its parts (2023)"
        ),
        "kd": Entry("selfkd.methods.kd:KD", "a trained network's softened predictions teach the network (2015)"),
        "dml": Entry("selfkd.methods.dml:DML", "two networks learn from each other's predictions (2018)"),
    },
    listing="'selfkd list methods' shows all",
    takes_own=True,
    missing=NOT_SPECIFIABLE,
)


def method_class(name: str) -> type[Method]:
    """The class of a method, by name.

    Raises:
        UnknownNameError: if there is no such method.
        UserError: if a custom class cannot be imported, is not a `Method`, or is abstract.
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
    """Refuse a reserved keyword argument that a method does not take.

    Args:
        name: name of the method.
        method: its class.
        given: the keyword arguments, each one of `RESERVED`.
        remedies: for each keyword, advice for the message.
    Raises: UserError: if one is not taken; the message says why.
    """
    for keyword in given:
        if keyword not in inspect.signature(method).parameters:
            reason = method.refused.get(keyword, f"its class has no keyword argument {keyword}")
            remedy = f"; {remedies[keyword]}" if remedies and keyword in remedies else ""
            raise UserError(f"method {name!r} takes no {keyword}: {reason}{remedy}")


def create_method(name: str, backbone: Staged, data: DatasetInfo, **hyper_parameters: Any) -> Method:
    """Create a method by name.

    Args:
        name: one of `METHODS`, or `package.module:Class` for your own.
        backbone: the staged network that will be deployed.
        data: facts about the training set.
        hyper_parameters: keyword arguments of the method's class. Some methods take `supervision`, a `selfkd.Teacher`
            as `teacher`, or a second staged network as `peer`.
    Raises:
        UnknownNameError: if there is no such method.
        UserError: if the method does not take the supervision, teacher or peer that is given.
        OptionError: if the method has no such option, a value is out of range, or its teacher or peer is missing.
    """
    method = method_class(name)
    check_reserved(name, method, [keyword for keyword in RESERVED if keyword in hyper_parameters])
    # If a second network is missing, the method itself refuses, since it knows what the network is for.
    needed = {keyword: None for keyword in ("teacher", "peer") if getattr(method.needs, keyword)}
    arguments = {**needed, **hyper_parameters}
    check_arguments(f"method {name!r}", method, backbone, data, **arguments)
    return method(backbone, data, **arguments)
