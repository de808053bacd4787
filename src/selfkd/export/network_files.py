"""A plain network as a file: safetensors under the network's own keys, with proof that it is the trained network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from selfkd.atomic_files import written_whole
from selfkd.errors import CheckpointError, ParityError
from selfkd.json_text import to_json

__all__ = ["METADATA_KEY", "SUFFIX", "check_parity", "export_network", "load_network", "save_network"]

SUFFIX = ".safetensors"
"""How the name of a file ends."""
METADATA_KEY = "selfkd"
"""The key of the file's metadata under which ours are kept as JSON."""
_PARITY_TOLERANCE = 1e-6


def save_network(network: nn.Module, path: Path, metadata: Mapping[str, Any]) -> None:
    """Write a network's state dict under its own keys. The file appears under its name only when it is complete.

    Args:
        network: plain, without any part of a method.
        path: the file.
        metadata: kept with the weights (class names, input size); JSON-serialisable.
    Raises: StorageError: if it cannot be written.
    """
    with written_whole(path) as partial:
        _write(network, partial, metadata)


def load_network(network: nn.Module, path: Path) -> None:
    """Load a file strictly into a plain network of the same architecture.

    Raises: CheckpointError: if the file is missing, damaged, or its keys and shapes are not exactly the network's.
    """
    try:
        network.load_state_dict(load_file(path), strict=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{path} cannot be loaded into {type(network).__name__}: {error}") from error


def export_network(
    trained: nn.Module,
    untrained: nn.Module,
    path: Path,
    input_size: tuple[int, int, int],
    metadata: Mapping[str, Any],
    among_others: bool = False,
) -> float:
    """Save a network, load the file into another network of its architecture, and compare the logits of both.

    Args:
        trained: the network to save, plain.
        untrained: gets the saved weights.
        path: the file, which replaces an older one only if the logits are equal.
        input_size: (channels, height, width) of an image.
        metadata: as for `save_network`.
        among_others: as for `written_whole`.
    Returns: the largest absolute difference of a logit.
    Raises:
        ParityError: if the logits differ.
        StorageError: if the file cannot be written.
    """
    with written_whole(path, among_others) as unproven:
        _write(trained, unproven, metadata)
        load_network(untrained, unproven)
        return check_parity(trained, untrained, input_size, _PARITY_TOLERANCE)


@torch.no_grad()
def check_parity(trained: nn.Module, exported: nn.Module, input_size: tuple[int, int, int], tolerance: float) -> float:
    """Compare the logits of two networks on the same normally distributed images, in eval mode on the CPU.

    Args:
        trained: the network as it was trained.
        exported: the network as it was loaded again.
        input_size: (channels, height, width) of an image.
        tolerance: largest allowed absolute difference of a logit.
    Returns: the largest absolute difference of a logit.
    Raises: ParityError: if a logit differs by more or is NaN or infinite, or if a network does not take such images.
    """
    images = torch.randn(8, *input_size, generator=torch.Generator().manual_seed(0))
    try:
        reference, candidate = (network.cpu().eval()(images) for network in (trained, exported))
    except RuntimeError as error:
        raise ParityError(f"the parity check failed: no logits for images of {list(input_size)}: {error}") from error
    if not reference.isfinite().all():
        raise ParityError("the parity check failed: the trained network itself gives logits that are NaN or infinite")
    difference = float((reference - candidate).abs().max())
    if not difference <= tolerance:
        raise ParityError(
            f"the parity check failed: the exported network's logits differ by {difference:.3g}, "
            f"more than {tolerance:.3g}"
        )
    return difference


def _write(network: nn.Module, path: Path, metadata: Mapping[str, Any]) -> None:
    # Cloning separates tensors that share memory, which safetensors refuses. The keys stay.
    state = {
        key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, value in network.state_dict().items()
    }
    # `save_file` would make the file private to its owner, whatever the umask is. With a second metadata key the file
    # would differ from run to run, because safetensors does not keep the order of the keys.
    path.write_bytes(save(state, {METADATA_KEY: to_json(metadata, indent=None)}))
