"""The records that pass between packages. This module imports neither torch nor any of our modules except the errors.

Letters used in shapes everywhere: B batch, V views, K classes, C channels, H W height and width, D embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, get_args

from selfkd.errors import BatchError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = [
    "Batch",
    "DatasetInfo",
    "Features",
    "Needs",
    "Normalization",
    "Preprocessing",
    "Progress",
    "StepOutput",
    "TeacherRecord",
]

_Stages = Literal["any", "halving", "halving_or_equal"]


@dataclass(frozen=True)
class Needs:
    """What a method needs from data, run and network. Other code reads these declarations, never a method's name.

    Args:
        sample_index: whether every batch carries the index of each sample in the training set.
        views: number of independent augmentations of each image.
        same_class: number n of further samples of its class that follow each sample, which is their anchor.
        same_class_distinct: whether the followers differ from their anchor and from each other, if the class has enough
            samples (BAKE); otherwise each is drawn from the whole class, with the anchor (CS-KD).
        labels: whether the method gets the label of every training sample, `DatasetInfo.labels`, when it is built. A
            run stores the labels only for such a method.
        teacher: whether the method takes the keyword argument `teacher`, a frozen trained network (`selfkd.Teacher`).
        peer: whether the method takes the keyword argument `peer`, a second staged network, which is trained along.
        stages: sizes of the stages of the network, and of the peer: "any", "halving" (each half the size of the stage
            before) or "halving_or_equal" (half or equal, up to the map that the classifier pools).
        own_blocks: whether the method builds branches from the network's own blocks, and from those of the peer, with
            `Staged.new_stage`.
    """

    sample_index: bool = False
    views: int = 1
    same_class: int = 0
    same_class_distinct: bool = False
    labels: bool = False
    teacher: bool = False
    peer: bool = False
    stages: _Stages = "any"
    own_blocks: bool = False

    def __post_init__(self) -> None:
        if self.views < 1 or self.same_class < 0:
            raise ValueError(f"Needs(views={self.views}, same_class={self.same_class}): expected >= 1 and >= 0")
        if self.stages not in get_args(_Stages):
            raise ValueError(f"Needs(stages={self.stages!r}): expected one of {', '.join(get_args(_Stages))}")

    @property
    def are_met_by_loader(self) -> bool:
        """Whether the loader alone can meet these needs."""
        return not (self.labels or self.teacher or self.peer or self.own_blocks) and self.stages == "any"

    def __or__(self, other: Needs) -> Needs:
        """The needs of two parts of one method together.

        Raises: ValueError: if the two parts have different rules for the sizes of the stages.
        """
        stages = {self.stages, other.stages} - {"any"}
        if len(stages) > 1:
            raise ValueError(
                f"two parts of one method declare Needs(stages={self.stages!r}) and Needs(stages={other.stages!r}); "
                "declare one rule"
            )
        return Needs(
            sample_index=self.sample_index or other.sample_index,
            views=max(self.views, other.views),
            same_class=max(self.same_class, other.same_class),
            same_class_distinct=self.same_class_distinct or other.same_class_distinct,
            labels=self.labels or other.labels,
            teacher=self.teacher or other.teacher,
            peer=self.peer or other.peer,
            stages=other.stages if self.stages == "any" else self.stages,
            own_blocks=self.own_blocks or other.own_blocks,
        )


@dataclass(frozen=True)
class Batch:
    """One training batch of B samples in V views each.

    With n followers of the same class, the B = (1 + n) * A samples are A anchors and their followers: first all
    anchors, then the first follower of each anchor in the same order, then the second followers, and so on. So sample
    `f * A + a` is follower f of anchor a; f = 0 is the anchor itself. `labels` and `indices` have an entry for each
    sample. `unstacked` gives each of these axes its own dimension.

    Args:
        images: `[V*B, 3, H, W]`, floating, view-major: all samples in their first view, then all in their second.
        labels: `[B]` int64 class indices, or soft `[B, K]` floating, rows summing to 1.
        indices: `[B]` int64 positions in the training set, or None if they are not needed.
        views: V.
        host_indices: the same indices in main memory, where they are checked at once. A history in main memory uses
            them; without them it has to wait for the device.
        followers: n, the value of `Needs.same_class`.
    Raises: BatchError: if one of the tensors is something else, such as a list or a NumPy array.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor | None = None
    views: int = 1
    host_indices: Tensor | None = None
    followers: int = 0

    def __post_init__(self) -> None:
        from torch import Tensor  # the caller has imported it, as it has made tensors

        for name in ("images", "labels", "indices", "host_indices"):
            value = getattr(self, name)
            optional = name.endswith("indices")
            if not (isinstance(value, Tensor) or (value is None and optional)):
                raise BatchError(
                    f"Batch.{name} must be a torch.Tensor{' or None' if optional else ''}, "
                    f"not {type(value).__name__}; torch.as_tensor converts a list or a NumPy array"
                )

    @property
    def anchors(self) -> int:
        """A, the number of anchors: the first A samples of the batch; all samples if there are no followers."""
        return len(self.labels) // (1 + self.followers)

    def unstacked(self, rows: Tensor) -> Tensor:
        """Give views, members of a class (the anchor first) and anchors a dimension each.

        Args:
            rows: `[V*B, ...]`, one row for each image (`images`, logits, features), or `[B, ...]`, one row for each
                sample (`labels`, `indices`).
        Returns: a view `[V, 1 + n, A, ...]`, or `[1, 1 + n, A, ...]` if there is one row for each sample.
        Raises: BatchError: if the number of rows is neither that of the images nor that of the samples.
        """
        samples = len(self.labels)
        if len(rows) not in (samples, samples * self.views):
            raise BatchError(
                f"there are {len(rows)} rows; expected one for each of the {samples} samples, or one for each of their "
                f"{samples * self.views} images"
            )
        return rows.view(len(rows) // samples, 1 + self.followers, self.anchors, *rows.shape[1:])

    def for_images(self, values: Tensor, count: int) -> Tensor:
        """Repeat values of the samples for the batch's first `count` images.

        Args:
            values: `[B, ...]`, one row for each sample, like `labels` and `indices`.
            count: number of images: one or more whole views, or the anchors of the first view.
        Returns: `[count, ...]`, row i for image i.
        Raises: BatchError: if the batch has no such number of images.
        """
        samples = len(self.labels)
        if count == samples:
            return values
        if count == self.anchors:
            return values[:count]
        if count == 0 or count % samples or count > samples * self.views:
            raise BatchError(
                f"{count} rows are not a number of whole views: the batch has {samples} samples in {self.views} views, "
                f"and {self.anchors} of the samples are anchors"
            )
        return values.repeat(count // samples, *([1] * (values.ndim - 1)))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Copy the batch to a device. Indices that are in main memory stay there as `host_indices`."""
        in_main_memory = self.indices is not None and self.indices.device.type == "cpu"
        return replace(
            self,
            images=self.images.to(device, non_blocking=non_blocking),
            labels=self.labels.to(device, non_blocking=non_blocking),
            indices=None if self.indices is None else self.indices.to(device, non_blocking=non_blocking),
            host_indices=self.indices if self.host_indices is None and in_main_memory else self.host_indices,
        )


@dataclass(frozen=True)
class Progress:
    """How far a training is.

    Args:
        epoch: number of the epoch, counted from 0.
        total_epochs: number of all epochs of the training.
        step: number of the batch in the epoch, counted from 0.
        steps_per_epoch: number of batches in an epoch, or None if it is not known.
    """

    epoch: int
    total_epochs: int
    step: int = 0
    steps_per_epoch: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.epoch < self.total_epochs:
            raise ValueError(
                f"Progress(epoch={self.epoch}, total_epochs={self.total_epochs}): "
                "epoch counts from 0 and must lie in [0, total_epochs)"
            )


@dataclass(frozen=True)
class DatasetInfo:
    """Facts about the training set that a method gets when it is built.

    Args:
        num_samples: size of the training set; sample indices lie in [0, num_samples).
        num_classes: K.
        class_names: K names in label order, or None.
        labels: the label of every training sample, in index order, or None. A run gives them only to a method that
            declares `Needs(labels=True)`.
        input_size: (channels, height, width) of one image, or None.
    """

    num_samples: int
    num_classes: int
    class_names: tuple[str, ...] | None = None
    labels: tuple[int, ...] | None = None
    input_size: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        if self.num_samples < 1 or self.num_classes < 2:
            raise ValueError(
                f"DatasetInfo(num_samples={self.num_samples}, num_classes={self.num_classes}): "
                "expected at least 1 sample and 2 classes"
            )
        if self.class_names is not None and len(self.class_names) != self.num_classes:
            raise ValueError(f"DatasetInfo: {len(self.class_names)} class_names for num_classes={self.num_classes}")


@dataclass(frozen=True)
class Preprocessing:
    """How images were prepared when a network's pretrained weights were trained.

    Args:
        mean: mean of each channel, of pixel values in [0, 1]; empty if it is not known.
        std: standard deviation of each channel, of pixel values in [0, 1]; empty if it is not known.
        interpolation: how images were resized: "bilinear" or "bicubic"; None if they were not.
        side: side of the network's input in pixels.
        crop_fraction: `side` divided by the length to which an image's shorter side was resized before the crop.
        crop_mode: how an image became a square: "center" cropped its centre, "squash" stretched it, and "border" padded
            it.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str | None
    side: int
    crop_fraction: float
    crop_mode: str = "center"


@dataclass(frozen=True)
class Normalization:
    """How pixel values in [0, 1] are normalised for a network: `(pixels - mean) / std`, for each channel.

    Args:
        mean: mean of each channel.
        std: standard deviation of each channel, > 0.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.mean or len(self.mean) != len(self.std) or not all(value > 0 for value in self.std):
            raise ValueError(
                f"Normalization(mean={self.mean}, std={self.std}): expected a mean and a std > 0 for each channel"
            )


@dataclass(frozen=True)
class TeacherRecord:
    """Facts about a teacher: enough to rebuild the adapters that were fitted to it, without its network.

    Args:
        num_classes: K.
        input_size: (channels, height, width) of one image.
        stage_shapes: (channels, height, width) of its four stage maps, shallow to deep.
        final_shape: (channels, height, width) of the map that its classifier pools.
        num_features: D, length of its pooled vector.
        checksum: SHA-256 of its weights, which identifies the teacher.
    """

    num_classes: int
    input_size: tuple[int, int, int]
    stage_shapes: tuple[tuple[int, int, int], ...]
    final_shape: tuple[int, int, int]
    num_features: int
    checksum: str


@dataclass(frozen=True)
class Features:
    """What a backbone computed for one batch.

    Args:
        stages: four maps `[B, C_i, H_i, W_i]`, shallow to deep.
        final: `[B, C, H, W]`, the map that the classifier pools; not always the last stage.
        pooled: `[B, D]`, `final` averaged over space (for token networks, the vector their head pools).
        logits: `[B, K]`, before softmax.
    """

    stages: tuple[Tensor, ...]
    final: Tensor
    pooled: Tensor
    logits: Tensor


@dataclass(frozen=True)
class StepOutput:
    """What a method computed for one batch.

    Args:
        loss: 0-d tensor to be minimised.
        terms: named 0-d tensors for the log: the parts of `loss`.
        logits: head name to `[B, K]`; "main" is the deployed classifier. The rows belong to the batch's first images:
            more than B with several views, fewer for the anchors alone.
        remembered: named tensors without gradient that the method's `after_step` needs beside the logits, such as
            features or checked labels; they are not logged.
    """

    loss: Tensor
    terms: Mapping[str, Tensor] = field(default_factory=dict)
    logits: Mapping[str, Tensor] = field(default_factory=dict)
    remembered: Mapping[str, Tensor] = field(default_factory=dict)
