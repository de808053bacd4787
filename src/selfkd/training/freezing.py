"""A part of the networks that does not train in the first epochs: `trainer.freeze`."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise

from torch import nn

from selfkd.backbones.parameter_parts import parameter_parts
from selfkd.backbones.staged import Staged
from selfkd.errors import BackboneError
from selfkd.training.options import TrainerOptions

__all__ = ["FrozenPart"]

_log = logging.getLogger("selfkd")


class FrozenPart:
    """A part of the networks that does not train in the first epochs.

    While it is frozen, its parameters have no gradient, so that the optimiser leaves them and their states as they are.
    Its modules are in eval mode: batch normalisation uses and keeps its statistics, and dropout is off.

    Args:
        networks: the networks that are trained.
        options: the recipe's `trainer.*`.
    Attributes:
        parameters: the parameters of the part; none if `trainer.freeze` is 0.
    Raises: BackboneError: if the part of a network cannot be found.
    """

    def __init__(self, networks: Sequence[Staged], options: TrainerOptions) -> None:
        self._epochs = options.epochs if options.freeze_epochs is None else min(options.freeze_epochs, options.epochs)
        self.parameters: list[nn.Parameter] = []
        self._modules: list[nn.Module] = []
        if options.freeze:
            for staged in networks:
                self._add(staged, options.freeze)
        self._trained: list[bool] | None = None  # while it is frozen: which parameters had a gradient before
        self._modes: list[tuple[nn.Module, bool]] = []

    def begin_epoch(self, epoch: int) -> None:
        """Freeze the part, or let it train from now on.

        Args:
            epoch: counted from 0.
        """
        if epoch < self._epochs:
            self._freeze()
        else:
            self._thaw()

    def _freeze(self) -> None:
        if not self.parameters:
            return
        if self._trained is None:
            self._trained = [parameter.requires_grad for parameter in self.parameters]
            self._modes = [(module, module.training) for part in self._modules for module in part.modules()]
            said = "%d tensors of weights are frozen until the end of epoch %d"
            _log.info(said, len(self.parameters), self._epochs)
        for parameter in self.parameters:
            parameter.requires_grad_(False)
            parameter.grad = None
        for part in self._modules:
            part.eval()

    def _thaw(self) -> None:
        if self._trained is None:
            return
        for parameter, trained in zip(self.parameters, self._trained, strict=True):
            parameter.requires_grad_(trained)
        for module, mode in self._modes:
            module.training = mode
        self._trained, self._modes = None, []
        _log.info("the frozen weights train from now on")

    def _add(self, staged: Staged, freeze: int | str) -> None:
        names = _frozen_names(staged, freeze)
        frozen = [parameter for name, parameter in staged.network.named_parameters() if name in names]
        self.parameters += frozen
        self._modules += _frozen_modules(staged.network, {*map(id, frozen)}, whole=freeze == "backbone")


def _frozen_names(staged: Staged, freeze: int | str) -> frozenset[str]:
    """The names of the parameters to freeze in a network."""
    kind, parts = type(staged.network).__name__, parameter_parts(staged)
    if freeze == "backbone":
        every = frozenset(name for name, _ in staged.network.named_parameters(remove_duplicate=False))
        if not parts.classifier:
            raise BackboneError(
                f"trainer.freeze=backbone needs a classifier to train; {kind} has no weights behind its pooled features"
            )
        return every - parts.classifier
    for number, (stage, deeper) in enumerate(pairwise(parts.up_to_stage), start=1):
        if not stage <= deeper:
            raise BackboneError(
                f"trainer.freeze={freeze} cannot be used with {kind}: stage {number + 1} does not need all the weights "
                f"of stage {number}, so that its stages do not follow each other; trainer.freeze=backbone works"
            )
    return parts.up_to_stage[int(freeze) - 1]


def _frozen_modules(module: nn.Module, frozen: Collection[int], whole: bool) -> Iterator[nn.Module]:
    """The largest parts of a module without a parameter that trains.

    Args:
        module: a network or a part of it.
        frozen: the identities of the parameters to freeze.
        whole: whether all of the network but its classifier is frozen.
    Raises: BackboneError: if nobody can say whether a module that keeps statistics belongs to the part.
    """
    for name, child in module.named_children():
        parameters = [id(parameter) for parameter in child.parameters()]
        if parameters and all(each in frozen for each in parameters):
            yield child
        elif parameters:
            yield from _frozen_modules(child, frozen, whole)
        elif any(getattr(each, "running_mean", None) is not None for each in child.modules()):
            if not whole:
                raise BackboneError(
                    f"trainer.freeze cannot say to which stage the normalisation {name!r} of {type(module).__name__} "
                    "belongs, because it has statistics and no weights; trainer.freeze=backbone works"
                )
            yield child
