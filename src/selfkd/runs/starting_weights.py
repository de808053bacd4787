"""The files of weights that a run's networks start from: `backbone.weights` and `peer.weights`.

The files are read when a run begins. Their checksums are kept in the run, so that the run does not continue with other
weights; afterwards the files are not needed any more.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor

from selfkd.backbones.parameter_parts import parameter_parts
from selfkd.backbones.staged import Staged
from selfkd.errors import CheckpointError, few, shown
from selfkd.export.network_metadata import read_metadata
from selfkd.given_paths import is_there
from selfkd.recipes.recipe import WEIGHTS, Recipe
from selfkd.runs.weights_files import checksum_of, named_as_in, read_weights

__all__ = ["LEAST_SHARE", "checksums", "load_starting_weights"]

LEAST_SHARE = 0.9
"""A file must have at least this share of all numbers in a network's parameters, the classifier aside."""

_log = logging.getLogger("selfkd")


def checksums(recipe: Recipe) -> dict[str, str | None]:
    """SHA-256 of the files that a recipe's networks start from, by section; None for a file that is gone.

    Raises: CheckpointError: if a file cannot be read.
    """
    files = {key.partition(".")[0]: recipe.file_of_weights(key.partition(".")[0]) for key in WEIGHTS}
    return {
        section: checksum_of(file) if is_there(file) else None for section, file in files.items() if file is not None
    }


def load_starting_weights(staged: Staged, path: Path, option: str, class_names: tuple[str, ...] | None = None) -> None:
    """Load a file of weights into a network before its training, and log what was not loaded.

    Wrapped state dicts and prefixes of keys are understood. A classifier of another size keeps its random weights. All
    other weights of the file must have the shapes of the network's, and the file must have nearly all of these.

    Args:
        staged: the network.
        path: the file.
        option: the option that names it, for messages: "backbone.weights".
        class_names: K names in label order, to be compared with those of a file that selfkd wrote.
    Raises:
        OptionError: if there is no such file.
        CheckpointError: if it is damaged, belongs to another network, or has a weight that is NaN or infinite.
    """
    network = staged.network
    own = {key: value for key, value in network.state_dict().items() if isinstance(value, Tensor)}
    weights = named_as_in(read_weights(path, option), own, path)
    classifier = parameter_parts(staged).classifier
    unlike = [key for key, value in own.items() if key in weights and not _is_like(weights[key], value)]
    is_new = not classifier.isdisjoint(unlike)
    left_out = {*unlike, *(classifier if is_new else ())}
    loaded = {key: value for key, value in weights.items() if key in own and key not in left_out}
    _check_fit(staged, f"{option}={shown(str(path))}", weights, own, classifier, loaded)
    network.load_state_dict(loaded, strict=False)
    _log.info("%s=%s: %d of the network's %d tensors are loaded", option, path, len(loaded), len(own))
    _say_origin(staged, path, weights, classifier, is_new, class_names)
    if missing := [key for key in own if key not in weights]:
        said = "%s lacks %d of the network's %d tensors, which keep their first values: %s"
        _log.warning(said, path, len(missing), len(own), few(missing))
    if unexpected := [key for key in weights if key not in own]:
        _log.warning("%s has %d tensors that the network does not have: %s", path, len(unexpected), few(unexpected))


def _is_like(value: Tensor, own: Tensor) -> bool:
    return value.shape == own.shape and value.is_floating_point() == own.is_floating_point()


def _check_fit(
    staged: Staged,
    given: str,
    weights: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    classifier: Collection[str],
    loaded: Mapping[str, Tensor],
) -> None:
    """Refuse a file of another network, and one with numbers that no training can start from."""
    network = type(staged.network).__name__
    unlike = [key for key in own if key in weights and key not in loaded and key not in classifier]
    if unlike:
        shapes = [f"{key} {_form(weights[key])} in the file, {_form(own[key])} in the network" for key in unlike]
        raise CheckpointError(
            f"{given} belongs to another network than {network}: {len(unlike)} tensors differ ({few(shapes)}); "
            "use the network with the options that the weights were trained with"
        )
    body = {key: value.numel() for key, value in staged.network.named_parameters() if key not in classifier}
    share = sum(size for key, size in body.items() if key in loaded) / max(1, sum(body.values()))
    if share < LEAST_SHARE or not loaded:
        missing, unexpected = [key for key in own if key not in weights], [key for key in weights if key not in own]
        raise CheckpointError(
            f"{given} belongs to another network than {network}: it has {share:.0%} of the weights before the "
            f"classifier, and at least {LEAST_SHARE:.0%} are needed; the file lacks {len(missing)} of the network's "
            f"{len(own)} tensors: {few(missing)}; the network lacks {len(unexpected)} of the file's: {few(unexpected)}"
        )
    for key, value in loaded.items():
        if not torch.isfinite(value).all():
            raise CheckpointError(f"{given} cannot be used: its tensor {key} has values that are NaN or infinite")


def _form(value: Tensor) -> str:
    return f"{list(value.shape)}" if value.is_floating_point() else f"{list(value.shape)} of {value.dtype}"


def _say_origin(
    staged: Staged,
    path: Path,
    weights: Mapping[str, Tensor],
    classifier: Collection[str],
    is_new: bool,
    class_names: tuple[str, ...] | None,
) -> None:
    """Log what became of the classifier, and the size of images that the weights were trained with."""
    metadata = read_metadata(path)
    trained = sorted(key for key in classifier if key in weights)
    if is_new:
        before = len(weights[trained[0]])
        names = "" if metadata is None or metadata.class_names is None else f" ({few(metadata.class_names)})"
        said = "the classifier starts from random weights: %s has %d classes%s, the data has %d"
        _log.info(said, path, before, names, staged.num_classes)
    elif trained and metadata is not None and metadata.class_names not in (None, class_names):
        said = "the classifier starts from that of %s, whose classes have other names: %s"
        _log.info(said, path, few(metadata.class_names))
    if metadata is not None and metadata.input_size not in (None, staged.input_size):
        sides = ("x".join(map(str, size[1:])) for size in (metadata.input_size, staged.input_size))
        _log.info("%s was trained with images of %s pixels; here they have %s", path, *sides)
