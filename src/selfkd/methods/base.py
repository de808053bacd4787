"""The contract of every method: what it needs, its step, its four hooks, and what remains of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

from torch import Tensor, nn

from selfkd.backbones.staged import Staged
from selfkd.contract import Batch, DatasetInfo, Needs, Progress, StepOutput
from selfkd.errors import BackboneError, BatchError, UserError
from selfkd.history import History

__all__ = ["Method"]


_TOLERANCE = 1e-2  # of the sum of soft labels, which may come in half precision


def _halving(backbone: Staged) -> bool:
    return all(
        later < earlier and later in (earlier // 2, (earlier + 1) // 2)
        for size, next_size in _steps(backbone.stage_shapes)
        for earlier, later in zip(size, next_size, strict=True)
    )


def _halving_or_equal(backbone: Staged) -> bool:
    return all(
        next_size in (size, tuple((side + 1) // 2 for side in size))
        for size, next_size in _steps((*backbone.stage_shapes[:-1], backbone.final_shape))
    )


def _steps(shapes: Sequence[tuple[int, int, int]]) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Height and width of each map beside those of the next."""
    return pairwise((height, width) for _, height, width in shapes)


# Needs.stages: what is needed, in words, and whether a network has it.
_STAGE_RULES: Mapping[str, tuple[str, Callable[[Staged], bool]]] = {
    "any": ("stages of any size", lambda backbone: True),
    "halving": ("stages of which each is half the size of the one before", _halving),
    "halving_or_equal": (
        "stages of which each is half the size of the one before, rounded up, or equal",
        _halving_or_equal,
    ),
}


def _check_stages(method: type[Method], backbone: Staged) -> None:
    wanted, holds = _STAGE_RULES[method.needs.stages]
    if holds(backbone):
        return
    from selfkd.methods import METHODS

    working = [name for name in METHODS if _STAGE_RULES[METHODS.load(name).needs.stages][1](backbone)]
    sizes = ", ".join(f"{height}x{width}" for _, height, width in (*backbone.stage_shapes, backbone.final_shape))
    raise BackboneError(
        f"{method.__name__} needs {wanted}; those of {type(backbone.network).__name__} and its last map are {sizes} "
        f"pixels. Methods that work on it: {', '.join(working)}"
    )


class Method(nn.Module, ABC):
    """The objective of one paper, over a backbone that knows nothing of it.

    A subclass is final. Its keyword arguments are its configuration in recipes and on the command line.
    A run calls `begin_epoch`, then for every batch `forward` and, after the optimiser's step, `after_step`,
    and at last `end_epoch`. `forward` has no side effect on what is remembered between epochs.

    Args:
        backbone: the staged network that will be deployed.
        data: what is known of the training set.
    Attributes:
        needs: what the method needs from data and run.
        history: what is remembered across epochs, or None; saved beside the checkpoint, never inside the weights.
    Raises: BackboneError: if network and data differ in the number of classes, or the network lacks what the method
        needs.
    """

    needs: ClassVar[Needs] = Needs()

    def __init__(self, backbone: Staged, data: DatasetInfo) -> None:
        super().__init__()
        if not isinstance(backbone, Staged):
            raise BackboneError(
                f"a method takes a Staged backbone: selfkd.stage(network), not {type(backbone).__name__}"
            )
        if backbone.num_classes != data.num_classes:
            raise BackboneError(
                f"the network has {backbone.num_classes} outputs, the data {data.num_classes} classes; "
                "build the network with the data's number of classes"
            )
        _check_stages(type(self), backbone)
        self.backbone = backbone
        self.num_classes = data.num_classes
        self.history: History | None = None
        self._first_batch = True
        self._epoch: int | None = None

    @abstractmethod
    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        """The objective for one batch. Call the method object itself, which checks the first batch."""

    def begin_epoch(self, progress: Progress) -> None:
        """Prepare an epoch; one that was broken off and begins again is forgotten.

        Raises: UserError: if another epoch was never ended, so that its predictions would be lost.
        """
        if self.history is not None:
            if self.history.unfinished and progress.epoch != self._epoch:
                raise UserError(f"epoch {self._epoch} was not ended; call end_epoch(progress) after its last batch")
            self.history.discard_unfinished()
        self._epoch = progress.epoch

    def after_step(self, batch: Batch, output: StepOutput) -> None:
        """Remember what the step computed; called after the optimiser's step."""

    def end_epoch(self, progress: Progress) -> None:
        """Close an epoch: what was remembered in it becomes readable."""

    def predict(self, images: Tensor) -> dict[str, Tensor]:
        """Logits `[B, K]` of every head, by name; "main" first."""
        return {"main": self.backbone(images).logits}

    def deployed(self) -> nn.Module:
        """The plain network, as it was given; the rest of the method can be thrown away."""
        return self.backbone.network

    def exits(self) -> Mapping[str, nn.Module]:
        """The sub-networks that can be deployed, by head name."""
        return {"main": self.deployed()}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for the optimiser; one group, unless a paper treats parts differently."""
        return [{"params": list(self.parameters())}]

    def __call__(self, batch: Batch, progress: Progress) -> StepOutput:
        self._check_form(batch)
        if self._first_batch:
            self._check_labels(batch)  # once, since looking costs a synchronisation with the device
        if self.history is not None and batch.indices is not None:
            self.history.fetch(
                batch.indices, batch.host_indices
            )  # here, since no compiled graph reaches outside itself
        output: StepOutput = super().__call__(batch, progress)
        if self._first_batch and "main" not in output.logits:
            raise UserError(f"{type(self).__name__} must give logits of its deployed head under the name 'main'")
        self._first_batch = False
        return output

    def _check_form(self, batch: Batch) -> None:
        name = type(self).__name__
        if self.needs.sample_index and batch.indices is None:
            raise BatchError(
                f"{name} needs sample_index: Batch.indices is None; let the data set return each sample's position"
            )
        if batch.views != self.needs.views:
            raise BatchError(f"{name} needs views={self.needs.views}, the batch has views={batch.views}")
        samples, followers = batch.labels.shape[0], self.needs.same_class
        if batch.images.shape[0] != samples * batch.views:
            raise BatchError(f"{name}: {batch.images.shape[0]} images for {samples} labels and {batch.views} views")
        if batch.indices is not None and len(batch.indices) != samples:
            raise BatchError(f"{name}: {len(batch.indices)} indices for {samples} labels")
        if batch.labels.ndim == 2 and batch.labels.shape[1] != self.num_classes:
            raise BatchError(f"{name}: soft labels of {batch.labels.shape[1]} classes, the data has {self.num_classes}")
        if samples % (1 + followers):
            raise BatchError(
                f"{name} needs same_class={followers}: {samples} labels do not divide into anchors and as many times "
                f"{followers} followers, anchors first (see selfkd.Batch)"
            )

    def _check_labels(self, batch: Batch) -> None:
        if batch.labels.ndim == 1:
            wrong = ((batch.labels < 0) | (batch.labels >= self.num_classes)).nonzero()
            said = f"lies outside [0, {self.num_classes})"
        else:
            total_B = batch.labels.float().sum(dim=1)
            wrong = (~((total_B - 1).abs() < _TOLERANCE) | (batch.labels < 0).any(dim=1)).nonzero()
            said = "is no distribution: shares must be >= 0 and sum to 1"
        if len(wrong):
            raise _wrong_label(batch, int(wrong[0]), said)
        anchors = len(batch.labels) // (1 + self.needs.same_class)
        labels_SAK = batch.labels.reshape(1 + self.needs.same_class, anchors, -1)
        strangers = (labels_SAK != labels_SAK[:1]).any(dim=2).flatten().nonzero()
        if len(strangers):
            position = int(strangers[0])
            said = f"differs from that of its anchor, at position {position % anchors} of the batch"
            raise _wrong_label(batch, position, said)


def _wrong_label(batch: Batch, position: int, said: str) -> BatchError:
    sample = position if batch.indices is None else int(batch.indices[position])
    label = f"label {int(batch.labels[position])}" if batch.labels.ndim == 1 else "the soft label"
    return BatchError(f"{label} of sample {sample} {said}")
