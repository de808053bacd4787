"""The files of weights that a run's networks start from: `backbone.weights` and `peer.weights`.

The files are read when a run begins. Their checksums are kept in the run, so that the run does not continue with other
weights, and the keys that file and network do not share; afterwards the files are not needed any more.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import torch
from torch import Tensor

from selfkd.backbones.parameter_parts import parameter_parts
from selfkd.backbones.staged import Staged
from selfkd.errors import WeightsError, few, shown
from selfkd.export.network_metadata import read_metadata
from selfkd.given_paths import is_there
from selfkd.recipes.recipe import WEIGHTS, Recipe
from selfkd.runs.weights_files import checksum_of, prefix_of, read_weights

__all__ = ["LEAST_SHARE", "StartingWeights", "checksums", "load_starting_weights", "starting_weights"]

LEAST_SHARE = 0.9
"""A file must have at least this share of all numbers in a network's parameters, and the network must have a place for
at least this share of the file's numbers. The classifier does not count."""

_log = logging.getLogger("selfkd")


class StartingWeights(TypedDict):
    """What a run keeps of a file of weights that a network started from.

    Keys: `sha256` is the file's checksum. `missing` are the network's keys that the file lacks. `unexpected` are the
    file's keys that the network does not have, with their prefixes.
    """

    sha256: str
    missing: list[str]
    unexpected: list[str]


@dataclass(frozen=True)
class _Found:
    """The tensors of a file for a network.

    Args:
        weights: the tensors under the network's own keys; some may be of keys that the network does not have.
        missing: the network's keys that the file lacks.
        unexpected: the file's keys that the network does not have, with their prefixes.
    """

    weights: Mapping[str, Tensor]
    missing: list[str]
    unexpected: list[str]

    @classmethod
    def read(cls, path: Path, option: str, own: Collection[str]) -> _Found:
        """Read a file of weights for a network whose state dict has the keys `own`."""
        content = read_weights(path, option)
        prefix = prefix_of(content, own, path)
        weights = {key.removeprefix(prefix): value for key, value in content.items() if key.startswith(prefix)}
        unexpected = [key for key in content if not key.startswith(prefix) or key.removeprefix(prefix) not in own]
        return cls(weights, [key for key in own if key not in weights], unexpected)


def starting_weights(recipe: Recipe, networks: Sequence[Staged]) -> dict[str, StartingWeights]:
    """What a run keeps of the files that its networks start from, by section.

    Args:
        recipe: names the files.
        networks: the networks of "backbone" and "peer", in this order.
    Raises:
        OptionError: if a file does not exist.
        WeightsError: if a file cannot be read.
    """
    kept: dict[str, StartingWeights] = {}
    for section, staged in zip(("backbone", "peer"), networks, strict=False):
        if (file := recipe.file_of_weights(section)) is not None:
            found = _Found.read(file, f"{section}.weights", _tensors_of(staged))
            kept[section] = {"sha256": checksum_of(file), "missing": found.missing, "unexpected": found.unexpected}
    return kept


def checksums(recipe: Recipe) -> dict[str, str | None]:
    """SHA-256 of the files that a recipe's networks start from, by section; None for a file that is gone.

    Raises: WeightsError: if a file cannot be read.
    """
    files = {key.partition(".")[0]: recipe.file_of_weights(key.partition(".")[0]) for key in WEIGHTS}
    return {
        section: checksum_of(file) if is_there(file) else None for section, file in files.items() if file is not None
    }


def load_starting_weights(
    staged: Staged, path: Path, option: str, network: str, class_names: tuple[str, ...] | None = None
) -> None:
    """Load a file of weights into a network before its training, and log what was not loaded.

    Wrapped state dicts and prefixes of keys are understood. A classifier of another size keeps its random weights. All
    other weights of the file must have the shapes of the network's. The file must have nearly all of the network's
    numbers, and the network a place for nearly all of the file's. Modules that only the file has, such as an auxiliary
    classifier or a decoder, are left out.

    Args:
        staged: the network.
        path: the file.
        option: the option that names it, for messages: "backbone.weights".
        network: the option that names the network, for messages: "backbone=resnet18".
        class_names: K names in label order, to be compared with those of a file that selfkd wrote.
    Raises:
        OptionError: if there is no such file.
        WeightsError: if it is damaged, belongs to another network, or has a weight that is NaN or infinite.
    """
    own = _tensors_of(staged)
    found = _Found.read(path, option, own)
    weights = found.weights
    classifier = parameter_parts(staged).classifier
    unlike = [key for key, value in own.items() if key in weights and not _is_like(weights[key], value)]
    is_new = not classifier.isdisjoint(unlike)
    left_out = {*unlike, *(classifier if is_new else ())}
    loaded = {key: value for key, value in weights.items() if key in own and key not in left_out}
    _check_fit(staged, f"{option}={shown(str(path))}", network, found, own, classifier, loaded)
    staged.network.load_state_dict(loaded, strict=False)
    _log.info("%s=%s: %d of the network's %d tensors are loaded", option, path, len(loaded), len(own))
    _say_origin(staged, path, option, weights, classifier, is_new, class_names)
    if found.missing:
        said = "%s lacks %s of the network's %d, so the network's first values stay: %s"
        _log.warning(said, path, _tensors(len(found.missing)), len(own), few(found.missing))
    if found.unexpected:
        said = "%s has %s without a place in the network: %s"
        _log.warning(said, path, _tensors(len(found.unexpected)), few(found.unexpected))


def _tensors_of(staged: Staged) -> dict[str, Tensor]:
    return {key: value for key, value in staged.network.state_dict().items() if isinstance(value, Tensor)}


def _is_like(value: Tensor, own: Tensor) -> bool:
    return value.shape == own.shape and value.is_floating_point() == own.is_floating_point()


def _check_fit(
    staged: Staged,
    given: str,
    network: str,
    found: _Found,
    own: Mapping[str, Tensor],
    classifier: Collection[str],
    loaded: Mapping[str, Tensor],
) -> None:
    """Refuse a file of another network, and one with numbers that no training can start from."""
    weights = found.weights
    other = f"{given} is a file of another network than {network}"
    unlike = [key for key in own if key in weights and key not in loaded and key not in classifier]
    if unlike:
        forms = [f"{key} is {_form(weights[key])} in the file and {_form(own[key])} in the network" for key in unlike]
        raise WeightsError(
            f"{other}: {_tensors(len(unlike))} of the file cannot be loaded ({few(forms)}); use the network with the "
            "options that the weights were trained with"
        )
    body = {key: value.numel() for key, value in staged.network.named_parameters() if key not in classifier}
    share = sum(size for key, size in body.items() if key in loaded) / max(1, sum(body.values()))
    if share < LEAST_SHARE or not loaded:
        unexpected = few(found.unexpected)
        left = f"; it has {_tensors(len(found.unexpected))} of other names: {unexpected}" if found.unexpected else ""
        raise WeightsError(
            f"{other}: it has {share:.0%} of the weights before the classifier, and at least {LEAST_SHARE:.0%} are "
            f"needed; it lacks {_tensors(len(found.missing))} of the network's {len(own)}: {few(found.missing)}{left}"
        )
    further = _further(weights, own, classifier)
    placed = sum(value.numel() for key, value in loaded.items() if key in body)
    share = placed / max(1, placed + sum(weights[key].numel() for key in further))
    if share < LEAST_SHARE:
        raise WeightsError(
            f"{other}: the network has a place for {share:.0%} of the file's weights before the classifier, and at "
            f"least {LEAST_SHARE:.0%} are needed; {_tensors(len(further))} of the file would be left out: "
            f"{few(further)}; use the network that the weights were trained with"
        )
    for key, value in loaded.items():
        if not torch.isfinite(value).all():
            raise WeightsError(f"{given} cannot be used: its tensor {key} has values that are NaN or infinite")


def _further(weights: Mapping[str, Tensor], own: Collection[str], classifier: Collection[str]) -> list[str]:
    """The file's weights without a place in the modules that the network has, its classifier aside.

    They show a larger network: `layer1.2.conv1.weight`, where the network's `layer1` has two blocks. A whole module
    that the network does not have, such as a decoder, does not.
    """
    modules = {key.partition(".")[0] for key in own}
    heads = tuple(f"{key.rpartition('.')[0]}." for key in classifier)
    return [
        key
        for key, value in weights.items()
        if key not in own
        and value.is_floating_point()
        and key.partition(".")[0] in modules
        and not key.startswith(heads)
    ]


def _tensors(number: int) -> str:
    return "1 tensor" if number == 1 else f"{number} tensors"


def _form(value: Tensor) -> str:
    return f"{list(value.shape)}" if value.is_floating_point() else f"{list(value.shape)} of {value.dtype}"


def _say_origin(
    staged: Staged,
    path: Path,
    option: str,
    weights: Mapping[str, Tensor],
    classifier: Collection[str],
    is_new: bool,
    class_names: tuple[str, ...] | None,
) -> None:
    """Log what became of the classifier, and the size of images that the weights were trained with."""
    metadata = read_metadata(path, option)
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
