"""The plain network as a file: safetensors with the network's own keys, and proof that it is the trained network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from selfkd.errors import CheckpointError, ParityError
from selfkd.json_text import to_json

__all__ = ["SUFFIX", "check_parity", "load_network", "save_network"]

_METADATA_KEY = "selfkd"  # under which a file's metadata hold, as JSON, what was given beside the network
SUFFIX = ".safetensors"
"""How the name of a file ends."""


def save_network(network: nn.Module, path: Path, metadata: Mapping[str, Any]) -> None:
    """Write the state dict under the network's own keys.

    Args:
        network: plain, without anything of a method.
        path: the file, which the caller shows under its name once it is whole (`written_whole`).
        metadata: what goes with it (class names, input size), JSON-serialisable.
    Raises: OSError: if it cannot be written.
    """
    # Clones part tensors that share memory, which safetensors refuses; the keys stay.
    state = {
        key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, value in network.state_dict().items()
    }
    # save_file would make the file private to its owner, whatever the umask says; and with a second metadata key the
    # file would differ from run to run, since safetensors does not keep their order.
    path.write_bytes(save(state, {_METADATA_KEY: to_json(metadata, indent=None)}))


def load_network(network: nn.Module, path: Path) -> None:
    """Load a file strictly into a plain network of the same architecture.

    Raises: CheckpointError: if the file is missing, damaged, or its keys and shapes are not exactly the network's.
    """
    try:
        network.load_state_dict(load_file(path), strict=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{path} cannot be loaded into {type(network).__name__}: {error}") from error


@torch.no_grad()
def check_parity(trained: nn.Module, exported: nn.Module, input_size: tuple[int, int, int], tolerance: float) -> float:
    """Compare the logits of two networks on the same normally distributed images, in eval mode on the CPU.

    Args:
        trained: the network as it was trained.
        exported: the network as it was loaded again.
        input_size: (channels, height, width).
        tolerance: largest allowed absolute difference of a logit.
    Returns: the largest difference.
    Raises: ParityError: if a logit differs by more or is not a number, or the networks take no such images.
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
