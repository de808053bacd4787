"""The logits of every image of a split that `--keep-logits` keeps in a run's folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from selfkd.atomic_files import written_whole
from selfkd.errors import CheckpointError, RunError, first_line
from selfkd.evaluation.predictions import Predictions
from selfkd.json_text import to_json
from selfkd.runs.data_record import read_fingerprint
from selfkd.runs.run_folder import RunFolder
from selfkd.training.checkpoint_content import checksum
from selfkd.training.checkpoint_files import weights_file

__all__ = ["keep_predictions", "read_predictions", "weights_checksum"]

_METADATA_KEY = "selfkd"  # of the file's metadata, under which ours are kept as JSON
_LOGITS = "logits/"


def keep_predictions(
    folder: RunFolder, split: str, which: str, predictions: Predictions, weights: Mapping[str, int]
) -> Path:
    """Keep the predictions for a split of the data that a run was trained on. Older ones are replaced.

    Args:
        folder: the run's folder.
        split: "test", "train" or "validation".
        which: the "last" or the "best" epoch, whose weights predicted.
        predictions: in main memory, in the order of the split.
        weights: `weights_checksum` of the file of these weights, taken before they were loaded. If a training has
            replaced the file since, the predictions count as not kept.
    Returns: the file.
    Raises:
        StorageError: if it cannot be written.
        RunError: if the record of the data is damaged.
    """
    path = folder.predictions_file(split, which)
    tensors = {
        "labels": predictions.labels,
        "indices": predictions.indices,
        **{f"{_LOGITS}{head}": logits_NK for head, logits_NK in predictions.logits.items()},
    }
    contiguous = {name: rows.contiguous() for name, rows in tensors.items()}
    # The order of the heads is kept apart, because safetensors sorts the tensors.
    metadata = {"made_from": _made_from(folder, weights), "heads": list(predictions.logits)}
    with written_whole(path) as partial:
        # `save_file` would make the file private to its owner, whatever the umask is.
        partial.write_bytes(save(contiguous, {_METADATA_KEY: to_json(metadata, indent=None)}))
    return path


def read_predictions(folder: RunFolder, split: str, which: str) -> Predictions | None:
    """Read the predictions that were kept for a split.

    Args:
        folder: the run's folder.
        split: "test", "train" or "validation".
        which: the "last" or the "best" epoch, whose weights predicted.
    Returns: the predictions in the order of the split, in main memory; None if none were kept, if they belong to other
        weights or other data than the run's now, or if the run has lost its weights.
    Raises: RunError: if the file or the record of the run's data is damaged.
    """
    path = folder.predictions_file(split, which)
    if not path.exists():
        return None
    try:
        weights = checksum(weights_file(folder.checkpoints, which))
    except (CheckpointError, RunError, OSError):  # they are lost, or a training replaces them at this moment
        return None
    made_from = _made_from(folder, weights)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads(file.metadata()[_METADATA_KEY])
            if metadata["made_from"] != made_from:
                return None
            labels, indices = _rows(file, "labels"), _rows(file, "indices")
            logits = {head: _rows(file, f"{_LOGITS}{head}") for head in metadata["heads"]}
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is damaged: {error}; delete it, or evaluate again with --keep-logits") from error
    return Predictions(logits, labels, indices)


def weights_checksum(file: Path) -> dict[str, int]:
    """The checksum of a file of weights, for `keep_predictions`.

    Raises: CheckpointError: if the file cannot be read.
    """
    try:
        return checksum(file)
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read ({first_line(error)})") from error


def _rows(file: Any, name: str) -> Tensor:
    rows: Tensor = file.get_tensor(name)
    return rows


def _made_from(folder: RunFolder, weights: Mapping[str, int]) -> dict[str, Any]:
    """What identifies the data and the weights that predictions were made from."""
    return {"data": read_fingerprint(folder), "weights": dict(weights)}
