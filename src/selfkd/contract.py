"""The records that pass between packages. Nothing here imports torch, or any module of ours but the errors.

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
    """What a method needs from data, run and network; declared, so that nobody ever asks for its name.

    Args:
        sample_index: every batch carries the index of each sample in the training set.
        views: number of independent augmentations of each image.
        same_class: number n of further samples of the same class that follow each sample, which is their anchor.
        same_class_distinct: the followers are other samples than their anchor and than each other as far as the class
            has enough of them (BAKE); else each is drawn from the whole class, anchor included (CS-KD).
        labels: the label of every training sample, `DatasetInfo.labels`, when the method is built; a run notes them for
            such a method alone.
        teacher: the keyword argument `teacher`, a trained network that is frozen (`selfkd.Teacher`).
        peer: the keyword argument `peer`, a second staged network, which is trained along.
        stages: sizes of the network's stages: "any", "halving" (each half the size of the one before) or
            "halving_or_equal" (up to the map that the classifier pools).
    """

    sample_index: bool = False
    views: int = 1
    same_class: int = 0
    same_class_distinct: bool = False
    labels: bool = False
    teacher: bool = False
    peer: bool = False
    stages: _Stages = "any"

    def __post_init__(self) -> None:
        if self.views < 1 or self.same_class < 0:
            raise ValueError(f"Needs(views={self.views}, same_class={self.same_class}): expected >= 1 and >= 0")
        if self.stages not in get_args(_Stages):
            raise ValueError(f"Needs(stages={self.stages!r}): expected one of {', '.join(get_args(_Stages))}")

    @property
    def are_of_batches(self) -> bool:
        """Whether nothing but what the loader gives is needed."""
        return not (self.labels or self.teacher or self.peer) and self.stages == "any"

    def __or__(self, other: Needs) -> Needs:
        """What two parts of one method need together.

        Raises: ValueError: if both ask for stages of some sizes, and not for the same.
        """
        stages = {self.stages, other.stages} - {"any"}
        if len(stages) > 1:
            raise ValueError(
                f"Needs(stages={self.stages!r}) and Needs(stages={other.stages!r}) of two parts of one method: no rule "
                "is said to hold both; declare one"
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
        )


@dataclass(frozen=True)
class Batch:
    """One training batch of B samples in V views each.

    With n followers of the same class the samples are A anchors and their followers, B = (1 + n) * A: first all
    anchors, then the first follower of each anchor in the anchors' order, then the second followers, and so on. So
    sample `f * A + a` is follower f of anchor a (f = 0: the anchor itself), and `labels` and `indices` have an entry
    for each of them. `unstacked` names the axes.

    Args:
        images: `[V*B, 3, H, W]`, floating, view-major: all samples in their first view, then all in their second.
        labels: `[B]` int64 class indices, or soft `[B, K]` floating, rows summing to 1.
        indices: `[B]` int64 positions in the training set, or None if nobody needs them.
        views: V.
        host_indices: the same indices in main memory, where they are checked at once and serve a history that lives
            there; where they are missing, such a history asks the device for them.
        followers: n, as `Needs.same_class` asks for them.
    Raises: BatchError: if one of the tensors is a list or a NumPy array.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor | None = None
    views: int = 1
    host_indices: Tensor | None = None
    followers: int = 0

    def __post_init__(self) -> None:
        from torch import Tensor  # whoever has a batch has imported it

        for name in ("images", "labels", "indices", "host_indices"):
            value = getattr(self, name)
            optional = name.endswith("indices")
            if not (isinstance(value, Tensor) or (value is None and optional)):
                raise BatchError(
                    f"Batch.{name} must be a torch.Tensor{' or None' if optional else ''}, "
                    f"not {type(value).__name__}; torch.as_tensor makes one of a list or a NumPy array"
                )

    @property
    def anchors(self) -> int:
        """A: the first samples of the batch; all of them where nothing follows."""
        return len(self.labels) // (1 + self.followers)

    def unstacked(self, rows: Tensor) -> Tensor:
        """Rows of the batch with an axis each for views, members of a class (the anchor first) and anchors.

        Args:
            rows: `[V*B, ...]`, one for each image (`images`, logits, features), or `[B, ...]`, one for each sample
                (`labels`, `indices`).
        Returns: `[V, 1 + n, A, ...]`, or `[1, 1 + n, A, ...]` of rows of samples; the same memory.
        Raises: BatchError: if there are neither as many rows as images nor as samples.
        """
        samples = len(self.labels)
        if len(rows) not in (samples, samples * self.views):
            raise BatchError(
                f"{len(rows)} rows are neither one for each of the {samples} samples nor for each of their "
                f"{samples * self.views} images"
            )
        return rows.view(len(rows) // samples, 1 + self.followers, self.anchors, *rows.shape[1:])

    def for_images(self, values: Tensor, count: int) -> Tensor:
        """What is known of the samples, for the batch's first images.

        Args:
            values: `[B, ...]`, one row for each sample, as `labels` and `indices` have.
            count: number of the images: those of one or more whole views, or the anchors' of the first.
        Returns: `[count, ...]`, row i of image i.
        Raises: BatchError: if there are not as many images.
        """
        samples = len(self.labels)
        if count == samples:
            return values
        if count == self.anchors:
            return values[:count]
        if count == 0 or count % samples or count > samples * self.views:
            raise BatchError(
                f"{count} rows are those of no whole view: the batch has {samples} samples in {self.views} views, "
                f"{self.anchors} of them anchors"
            )
        return values.repeat(count // samples, *([1] * (values.ndim - 1)))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same batch on another device; indices that are in main memory stay there as `host_indices`."""
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
    """Where a run stands.

    Args:
        epoch: 0 for the first epoch.
        total_epochs: length of the whole run.
        step: 0 for the first batch of the epoch.
        steps_per_epoch: batches in an epoch, or None where nobody knows.
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
    """What a method must know of the training data before training.

    Args:
        num_samples: size of the training set; sample indices lie in [0, num_samples).
        num_classes: K.
        class_names: K names in label order, or None.
        labels: the label of every training sample, in index order, or None. A run gives them to a method that declares
            `Needs(labels=True)`, and to no other.
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
    """How images were prepared when a network's pretrained weights were made.

    Args:
        mean: per channel, of pixel values in [0, 1], subtracted.
        std: per channel, of pixel values in [0, 1], divided by.
        interpolation: how images were scaled: "bilinear", "bicubic".
        side: of the network's input, in pixels.
        crop_fraction: side by the pixels to which an image's shorter side was scaled before its centre was cut out.
        crop_mode: how an image of other sides became a square: "center" cut its centre out, "squash" stretched it, and
            "border" padded it.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    side: int
    crop_fraction: float
    crop_mode: str = "center"


@dataclass(frozen=True)
class Normalization:
    """How pixel values in [0, 1] became what a network takes: `(pixels - mean) / std`, per channel.

    Args:
        mean: per channel, subtracted.
        std: per channel, divided by; above 0.
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
    """What is known of a teacher where its network is not at hand: enough to rebuild what was fitted to it.

    Args:
        num_classes: K.
        input_size: (channels, height, width) of one image.
        stage_shapes: (channels, height, width) of its four stage maps, shallow to deep.
        final_shape: the same for the map that its classifier pools.
        num_features: D, length of its pooled vector.
        checksum: SHA-256 of its weights, which says which teacher it was.
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
        terms: named 0-d tensors for the log; `loss` is made of them.
        logits: head name to `[B, K]`; "main" is the deployed classifier. Rows follow the batch's images and may be
            more than B (further views) or fewer (anchors alone).
        remembered: named tensors without gradient that the method's `after_step` needs beside the logits, such as
            features, or labels that were checked; not logged.
    """

    loss: Tensor
    terms: Mapping[str, Tensor] = field(default_factory=dict)
    logits: Mapping[str, Tensor] = field(default_factory=dict)
    remembered: Mapping[str, Tensor] = field(default_factory=dict)
