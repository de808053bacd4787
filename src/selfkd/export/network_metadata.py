"""What a network's file says beside its weights: how images are prepared for it, its classes, and its epoch."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from safetensors import SafetensorError, safe_open

from selfkd.contract import Preprocessing
from selfkd.data.reading.resizing import Interpolation
from selfkd.errors import WeightsError, first_line, shown
from selfkd.export.network_files import METADATA_KEY, SUFFIX

__all__ = ["NO_SAFETENSORS", "NetworkMetadata", "read_metadata"]

NO_SAFETENSORS = "is no safetensors file, or it is damaged; copy or download it again"
"""What is wrong with a file that safetensors cannot read, and what to do."""

_CHANNELS = 3


@dataclass(frozen=True, kw_only=True)
class NetworkMetadata:
    """What selfkd keeps beside a network's weights. A field is None where an older version did not write it.

    Args:
        class_names: K names in label order.
        input_size: (channels, height, width) of an image.
        epoch: after which the weights were saved, counted from 1.
        mean: mean of each channel, of pixel values in [0, 1], with which images are normalised.
        std: standard deviation of each channel, likewise.
        interpolation: how images are resized, "bilinear" or "bicubic"; None if their size is not changed.
        resize: length in pixels of an image's shorter side before its centre is cut out; None as `interpolation`.
    """

    class_names: tuple[str, ...] | None = None
    input_size: tuple[int, int, int] | None = None
    epoch: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    interpolation: str | None = None
    resize: int | None = None

    @property
    def preprocessing(self) -> Preprocessing | None:
        """How images are prepared for the network; None in the file of an older version."""
        if self.mean is None or self.std is None or self.input_size is None:
            return None
        side = self.input_size[-1]
        fraction = 1.0 if self.resize is None else side / max(side, self.resize)
        return Preprocessing(self.mean, self.std, self.interpolation, side, fraction)


def read_metadata(path: Path, option: str) -> NetworkMetadata | None:
    """What selfkd wrote beside the weights in a file; None if it did not write the file. The weights are not read.

    Args:
        path: the file.
        option: the option that names it, for messages: "backbone.weights".
    Raises: WeightsError: if the file is missing or damaged.
    """
    if path.suffix != SUFFIX:
        return None
    given = f"{option}={shown(str(path))}"
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(METADATA_KEY)
    except SafetensorError as error:
        raise WeightsError(f"{given} {NO_SAFETENSORS}") from error
    except OSError as error:
        raise WeightsError(f"{given} cannot be read ({first_line(error)})") from error
    if text is None:
        return None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{given} is damaged: its metadata is not JSON") from error
    if not isinstance(content, Mapping):
        raise WeightsError(f"{given} is damaged: its metadata is not a JSON object")
    known: dict[str, Any] = {}
    for key, is_usable in _USABLE.items():
        value = content.get(key)
        if is_usable(value):
            known[key] = tuple(value) if isinstance(value, list) else value
    return NetworkMetadata(**known)


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0


def _are(is_one: Callable[[Any], bool], length: int | None = None) -> Callable[[Any], bool]:
    """A check of a list with a check of its members."""
    return lambda value: isinstance(value, list) and length in (None, len(value)) and all(map(is_one, value))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


# The fields, and a check of their values. Other values are taken as if they were not there.
_USABLE: Mapping[str, Callable[[Any], bool]] = {
    "class_names": _are(lambda name: isinstance(name, str)),
    "input_size": _are(_is_count, _CHANNELS),
    "epoch": _is_count,
    "mean": _are(_is_number, _CHANNELS),
    "std": _are(lambda value: _is_number(value) and value > 0, _CHANNELS),
    "interpolation": lambda value: value in get_args(Interpolation),
    "resize": _is_count,
}
