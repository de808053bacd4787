"""Files of weights, whoever wrote them: read without unpickling code, and named as a network names its weights."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from selfkd.errors import OptionError, WeightsError, few, first_line, shown
from selfkd.export.network_files import SUFFIX
from selfkd.export.network_metadata import NO_SAFETENSORS
from selfkd.given_paths import check_path, is_folder, is_there
from selfkd.runs.run_folder import RunFolder
from selfkd.training.memory import is_out_of_memory

__all__ = ["check_exists", "checksum_of", "named_as_in", "prefix_of", "read_weights"]

_HOW_TO_SAVE = f"save it with torch.save(network.state_dict(), file) or as *{SUFFIX}"
# The keys under which training programs keep a state dict in a larger file; the first one that the file has is used.
# Averaged weights come first, because programs that average deploy them.
_WRAPPERS = (
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "ema",
    "state_dict",
    "model_state_dict",
    "model",
    "network",
    "net",
    "module",
    "weights",
)
_DEEPEST = 3
# The names of the modules that programs put around a network. Where a file holds several networks, these are preferred.
_AROUND = frozenset({"", "module", "model", "_orig_mod", "backbone", "network", "net", "method", "student"})


def checksum_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits.

    Raises: WeightsError: if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({first_line(error)})") from error


def read_weights(path: Path, option: str) -> Mapping[str, Tensor]:
    """Read the weights in a file: safetensors, or a state dict that torch saved, alone or in a larger checkpoint.

    Args:
        path: the file.
        option: the option that names it, for messages.
    Returns: the tensors under the file's own keys, on the CPU.
    Raises:
        OptionError: if there is no such file.
        WeightsError: if it is damaged, holds no weights, or needs a newer version of torch or safetensors.
    """
    check_exists(path, option)
    given = f"{option}={shown(str(path))}"
    if path.suffix == SUFFIX:
        return _read_safetensors(path, given)
    return _state_dict_in(_read_torch(path, given), given)


def check_exists(path: Path, option: str) -> None:
    """Refuse a path at which there is no file. If it is a folder with a run, the error names the run's weights.

    Args:
        path, option: as for `read_weights`.
    Raises: OptionError: if there is no file. UserError: if no file can have this path.
    """
    check_path(path)
    if is_there(path):
        return
    runs = [path, *sorted(path.glob("seed-*"))] if is_folder(path) else []
    files = [file for file in (RunFolder(run).network_file for run in runs) if is_there(file)]
    if files:
        reason = f"it is the folder of a run; set {option}={files[0]}, which has the weights"
        raise OptionError(option, str(path), reason=reason)
    reason = "it is a folder without the weights of a run" if is_folder(path) else "there is no such file"
    raise OptionError(option, str(path), reason=reason)


def named_as_in(weights: Mapping[str, Tensor], names: Collection[str], path: Path) -> Mapping[str, Tensor]:
    """The weights of one network in a file, under that network's own keys: `module.fc.bias` becomes `fc.bias`.

    Keys without the prefix of `prefix_of` are left out.

    Args:
        weights, names, path: as for `prefix_of`.
    Raises: WeightsError: if the file holds several such networks.
    """
    prefix = prefix_of(weights, names, path)
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


def prefix_of(weights: Mapping[str, Tensor], names: Collection[str], path: Path) -> str:
    """The prefix under which a file has most of a network's keys, more than half of them; "" if there is none.

    Args:
        weights: the tensors of a file.
        names: the keys of the network's state dict.
        path: the file, for messages.
    Raises: WeightsError: if the file holds several such networks.
    """
    found: Counter[str] = Counter()
    for key in weights:
        parts = key.split(".")
        found.update(".".join([*parts[:depth], ""]) for depth in range(len(parts)) if ".".join(parts[depth:]) in names)
    most = max(found.values(), default=0)
    if most <= len(names) / 2:
        return ""  # no prefix makes it a file of this network
    prefixes = [prefix for prefix, count in found.items() if count == most]
    if len(prefixes) > 1:
        usual = [prefix for prefix in prefixes if _AROUND.issuperset(prefix.split("."))]
        prefixes = usual if len(usual) == 1 else prefixes
    if len(prefixes) > 1:
        raise WeightsError(
            f"{path} holds several networks of this kind, whose keys begin with {few(sorted(prefixes))}; "
            "save one of them alone"
        )
    return prefixes[0]


def _read_safetensors(path: Path, given: str) -> Mapping[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError, RuntimeError, AttributeError, KeyError) as error:
        if is_out_of_memory(error):
            raise
        if "unknown variant" in str(error):
            fault = "has a type of numbers that this version of safetensors does not know; update safetensors"
        else:
            fault = NO_SAFETENSORS
        raise WeightsError(f"{given} {fault}") from error


def _read_torch(path: Path, given: str) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(f"{given} cannot be read ({first_line(error)})") from error
    except Exception as error:  # torch's reader raises anything on a forged file, and advises to trust it
        if is_out_of_memory(error):
            raise
        if "maximum supported version" in str(error):
            raise WeightsError(f"{given} was written by a newer version of torch; update torch to read it") from error
        raise WeightsError(
            f"{given} is damaged, is no file of weights, or holds more than tensors; {_HOW_TO_SAVE}"
        ) from error


def _state_dict_in(content: Any, given: str, depth: int = 0) -> Mapping[str, Tensor]:
    """The state dict in what a file holds."""
    if isinstance(content, Mapping) and depth < _DEEPEST:
        inside = {key: value for key, value in content.items() if _holds_tensors(value)}
        known = next((key for key in _WRAPPERS if key in inside), None)
        if known is None and len(inside) == 1:
            (known,) = inside
        if known is not None:
            return _state_dict_in(inside[known], given, depth + 1)
        if inside and not _is_state_dict(content):
            raise WeightsError(
                f"{given} holds tensors under several keys, {few(sorted(map(str, inside)))}; save one of them alone"
            )
    if not _is_state_dict(content):
        raise WeightsError(f"{given} is not a state dict; {_HOW_TO_SAVE}")
    return {key: value for key, value in content.items() if isinstance(value, Tensor)}


def _holds_tensors(value: Any, depth: int = 0) -> bool:
    """Whether a value is a state dict, or a mapping that holds one."""
    if not isinstance(value, Mapping):
        return False
    deeper = depth < _DEEPEST and any(_holds_tensors(each, depth + 1) for each in value.values())
    return deeper or _is_state_dict(value)


def _is_state_dict(content: Any) -> bool:
    return (
        isinstance(content, Mapping)
        and all(isinstance(key, str) for key in content)
        and any(isinstance(value, Tensor) for value in content.values())
    )
