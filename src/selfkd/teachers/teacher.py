"""A trained network that teaches another one: frozen, in eval mode, without gradient."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from selfkd.backbones.staged import Staged
from selfkd.contract import Features, Normalization, TeacherRecord
from selfkd.errors import BackboneError, CheckpointError, OptionError, UserError

__all__ = ["Teacher"]


class Teacher:
    """A frozen network, called as `teacher(images)`.

    It is not a module. So it is neither in the method's parameters nor in its state, it stays in eval mode when the
    method trains, and processes that train together do not exchange its weights.

    Args:
        network: the trained network. It is frozen in place: no gradient, eval mode. Do not change it afterwards: the
            record holds a checksum of its weights.
        normalization: how the images were normalised that it was trained with; None if like the student's.
        student_normalization: how the student's images are normalised; give both normalizations or neither.
    Attributes:
        record: facts about the teacher, for code that does not have its network.
    Raises:
        BackboneError: if `network` is not staged.
        CheckpointError: if one of its weights is NaN or infinite.
        OptionError: if only one of the normalizations is given, or they do not fit the images' channels.
    """

    record: TeacherRecord

    def __init__(
        self,
        network: Staged,
        normalization: Normalization | None = None,
        student_normalization: Normalization | None = None,
    ) -> None:
        if not isinstance(network, Staged):
            raise BackboneError(
                f"a teacher needs a Staged network, such as selfkd.stage(network), not {type(network).__name__}"
            )
        channels = network.input_size[0]
        if (normalization is None) != (student_normalization is None):
            raise OptionError(
                "normalization",
                normalization,
                reason="give normalization and student_normalization together, or neither",
            )
        for option, value in (("normalization", normalization), ("student_normalization", student_normalization)):
            if value is not None and len(value.mean) != channels:
                raise OptionError(option, value, f"for {channels} channels, the number that the teacher's images have")
        _check_finite(network.network)
        self._network: Staged | None = network.eval().requires_grad_(False)
        self._affine = _affine(normalization, student_normalization)
        self._matched: tuple[torch.device, torch.dtype, bool] | None = None  # the last: whether channels come last
        self.record = TeacherRecord(
            num_classes=network.num_classes,
            input_size=network.input_size,
            stage_shapes=network.stage_shapes,
            final_shape=network.final_shape,
            num_features=network.num_features,
            checksum=_checksum(network.network),
        )

    @classmethod
    def from_record(cls, record: TeacherRecord) -> Teacher:
        """A teacher without its network: enough to build, evaluate and export its student.

        Args:
            record: facts about the teacher that trained the student.
        """
        teacher = cls.__new__(cls)
        teacher._network, teacher._affine, teacher._matched, teacher.record = None, None, None, record
        return teacher

    def __call__(self, images: Tensor) -> Features:
        """Maps, pooled feature and logits of the teacher, without gradient.

        Args:
            images: `[B, C, H, W]`, normalised like the student's.
        Raises: UserError: if the teacher has no network, only a record.
        """
        if self._network is None:
            raise UserError(
                "the teacher's network is not loaded, only its record: the method can evaluate and predict, not train"
            )
        with torch.no_grad():
            if self._affine is not None:
                scale_C11, shift_C11 = self._affine
                images = images * scale_C11 + shift_C11
            features: Features = self._network(images)
            return features

    def match(self, images: Tensor) -> None:
        """Move the network to the device, type and memory layout of the images. Never a part of a compiled graph.

        A network that was put into training mode meanwhile is put back into eval mode.
        """
        if self._network is None:
            return
        if self._network.training or self._network.network.training:
            self._network.eval()
        # Images of one channel or pixel have both layouts; then contiguous is as good.
        is_channels_last = images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
        wanted = images.device, images.dtype, is_channels_last
        if self._matched == wanted:
            return
        layout = torch.channels_last if is_channels_last else torch.contiguous_format
        self._network.to(images.device, images.dtype).to(memory_format=layout)
        if self._affine is not None:
            scale_C11, shift_C11 = self._affine
            self._affine = scale_C11.to(images), shift_C11.to(images)
        self._matched = wanted

    def shares_parameters_with(self, network: nn.Module) -> bool:
        """Whether it has a parameter in common with another network, which then could not learn."""
        own = set() if self._network is None else {id(parameter) for parameter in self._network.parameters()}
        return any(id(parameter) in own for parameter in network.parameters())


def _affine(own: Normalization | None, student: Normalization | None) -> tuple[Tensor, Tensor] | None:
    """Scale and shift `[C, 1, 1]` from the student's normalization to the teacher's own; None if they are equal."""
    if own is None or student is None or own == student:
        return None
    own_mean, own_std, student_mean, student_std = (
        torch.tensor(values, dtype=torch.float64)[:, None, None]
        for values in (own.mean, own.std, student.mean, student.std)
    )
    return (student_std / own_std).float(), ((student_mean - own_mean) / own_std).float()


def _check_finite(network: nn.Module) -> None:
    """Refuse NaN and infinite weights. They would make the student's loss NaN, as a wrong learning rate does.

    Raises: CheckpointError: naming the first such weight.
    """
    for key, value in network.state_dict().items():
        if not torch.isfinite(value).all():
            raise CheckpointError(
                f"the teacher's weight {key} is NaN or infinite: its training failed, or its file is damaged"
            )


def _checksum(network: nn.Module) -> str:
    """SHA-256 of the names, types, shapes and values of all weights. It does not depend on the file they came from."""
    digest = hashlib.sha256()
    for key, value in sorted(network.state_dict().items()):
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
