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

    It is no module. So a method that holds one has it neither among its parameters nor in its state, its mode does not
    change with the method's, and processes that train together exchange nothing of it.

    Args:
        network: the trained network. From now on its parameters take no gradient and it is in eval mode, in place; it
            must not be changed any more, as the record holds a checksum of its weights.
        normalization: of the images that it was trained with; None for that of the images that it is given.
        given: normalization of the images that it is given, which are those of the student.
    Attributes:
        record: what is known of it, for where it is not at hand.
    Raises:
        BackboneError: if `network` is not staged.
        CheckpointError: if a weight of it is NaN or infinite.
        OptionError: if only one of the normalizations is given, or they do not fit the images' channels.
    """

    record: TeacherRecord

    def __init__(
        self, network: Staged, normalization: Normalization | None = None, given: Normalization | None = None
    ) -> None:
        if not isinstance(network, Staged):
            raise BackboneError(
                f"a teacher is made of a Staged network: selfkd.stage(network), not {type(network).__name__}"
            )
        channels = network.input_size[0]
        for option, value, other in (("normalization", normalization, given), ("given", given, normalization)):
            if (value is None) != (other is None):
                raise OptionError(option, value, "given together with the other normalization, or both left out")
            if value is not None and len(value.mean) != channels:
                raise OptionError(option, value, f"of {channels} channels, as the teacher's images have")
        _check_finite(network.network)
        self._network: Staged | None = network.eval().requires_grad_(False)
        self._affine = _affine(normalization, given)
        self._place: tuple[torch.device, torch.dtype, bool] | None = None  # whether channels come last
        self.record = TeacherRecord(
            num_classes=network.num_classes,
            input_size=network.input_size,
            stage_shapes=network.stage_shapes,
            final_shape=network.final_shape,
            num_features=network.num_features,
            checksum=_checksum(network.network),
        )

    @classmethod
    def absent(cls, record: TeacherRecord) -> Teacher:
        """A teacher of which only the record is at hand: enough to build, evaluate and export its student.

        Args:
            record: of the teacher that trained it.
        """
        teacher = cls.__new__(cls)
        teacher._network, teacher._affine, teacher._place, teacher.record = None, None, None, record
        return teacher

    def __call__(self, images: Tensor) -> Features:
        """Its maps, pooled feature and logits for the student's images; no gradient flows.

        Args:
            images: `[B, C, H, W]`, normalised as the student's.
        Raises: UserError: if only its record is at hand.
        """
        if self._network is None:
            raise UserError(
                "the teacher is not at hand, only its record: without it a method evaluates and predicts, but does not "
                "train"
            )
        with torch.no_grad():
            if self._affine is not None:
                scale_C11, shift_C11 = self._affine
                images = images * scale_C11 + shift_C11
            features: Features = self._network(images)
            return features

    def follow(self, images: Tensor) -> None:
        """Take the device, type and memory layout of images, unless it has them; never a part of a compiled graph.

        If somebody has put the network into training mode meanwhile, it is put back into eval mode.
        """
        if self._network is None:
            return
        if self._network.training or self._network.network.training:
            self._network.eval()
        # Images of one channel or pixel lie in both layouts at once; contiguous is as good then.
        is_channels_last = images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
        place = images.device, images.dtype, is_channels_last
        if self._place == place:
            return
        layout = torch.channels_last if is_channels_last else torch.contiguous_format
        self._network.to(images.device, images.dtype).to(memory_format=layout)
        if self._affine is not None:
            scale_C11, shift_C11 = self._affine
            self._affine = scale_C11.to(images), shift_C11.to(images)
        self._place = place

    def shares_parameters_with(self, network: nn.Module) -> bool:
        """Whether a parameter of it belongs to another network too, which then could not learn."""
        own = set() if self._network is None else {id(parameter) for parameter in self._network.parameters()}
        return any(id(parameter) in own for parameter in network.parameters())


def _affine(own: Normalization | None, given: Normalization | None) -> tuple[Tensor, Tensor] | None:
    """Scale and shift `[C, 1, 1]` from given to own normalization; None where they are equal."""
    if own is None or given is None or own == given:
        return None
    own_mean, own_std, given_mean, given_std = (
        torch.tensor(values, dtype=torch.float64)[:, None, None]
        for values in (own.mean, own.std, given.mean, given.std)
    )
    return (given_std / own_std).float(), ((given_mean - own_mean) / own_std).float()


def _check_finite(network: nn.Module) -> None:
    """Refuse a network that gives no finite logits, which a training would blame on its own learning rate.

    Raises: CheckpointError: naming the first weight that is NaN or infinite.
    """
    for key, value in network.state_dict().items():
        if not torch.isfinite(value).all():
            raise CheckpointError(
                f"the teacher's weight {key} is NaN or infinite: its training has failed, or its file is damaged"
            )


def _checksum(network: nn.Module) -> str:
    """SHA-256 of names, types, shapes and values of all weights, whatever file they came from."""
    digest = hashlib.sha256()
    for key, value in sorted(network.state_dict().items()):
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
