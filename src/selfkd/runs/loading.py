"""A finished run back in memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from torch import Tensor, nn

from selfkd.atomic_files import written_whole
from selfkd.backbones.staged import Staged
from selfkd.data.source import Source
from selfkd.errors import CheckpointError, SelfKDError
from selfkd.export.network_files import check_parity, load_network, read_metadata, save_network
from selfkd.recipes.reader import Recipe
from selfkd.runs.run_folder import RunFolder
from selfkd.training.checkpoint_files import read_weights, weights_file

__all__ = ["LoadedRun", "described", "export_network", "load", "plain_network", "trained_network"]

_PARITY_TOLERANCE = 1e-6


@dataclass(frozen=True)
class LoadedRun:
    """What a run leaves to be used.

    Args:
        network: plain, in eval mode, with the weights of the last epoch.
        class_names: K names in label order.
        transform: from a PIL image to the `[C, H, W]` tensor that the network takes in a batch.
        input_size: (channels, height, width).
        recipe: what was trained.
    """

    network: nn.Module
    class_names: tuple[str, ...]
    transform: Callable[[Image.Image], Tensor]
    input_size: tuple[int, int, int]
    recipe: Recipe


def load(run: str | os.PathLike[str], trust_imports: bool = False) -> LoadedRun:
    """Load a finished run: an object with `network`, `class_names` and `transform`.

    Args:
        run: its folder.
        trust_imports: let the run's recipe name `package.module:Name`, whose import runs code.
    Raises:
        RunError: if there is no such run or it is not finished.
        RecipeError: if its recipe names somebody's own code and that is not trusted.
        CheckpointError: if its network file is damaged.
    """
    folder = RunFolder.finished(Path(run))
    recipe = folder.recipe(trust_imports=trust_imports)
    class_names, input_size = described(folder)
    network = plain_network(recipe, len(class_names))
    load_network(network, folder.network_file)
    source: Source = recipe.target("data")(**recipe.options["data"])
    return LoadedRun(network.eval(), class_names, source.inference_transform(), input_size, recipe)


def plain_network(recipe: Recipe, num_classes: int) -> nn.Module:
    """The recipe's network, untrained and untouched by any method; pretrained weights are not fetched again."""
    options = dict(recipe.options["backbone"])
    if options.get("pretrained"):
        options["pretrained"] = False
    network = recipe.target("backbone")(num_classes, **options)
    plain: nn.Module = network.network if isinstance(network, Staged) else network
    return plain


def trained_network(folder: RunFolder, recipe: Recipe, which: str, num_classes: int) -> nn.Module:
    """The plain network with the weights of a checkpoint, without building the method around it.

    Args:
        folder: a finished run.
        recipe: its recipe.
        which: "last" or "best".
        num_classes: K.
    Raises: CheckpointError: if the checkpoint is damaged or not of this network.
    """
    path = weights_file(folder.checkpoints, which)
    weights, _ = read_weights(path, prefix="backbone.network.")
    network = plain_network(recipe, num_classes)
    try:
        network.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit {type(network).__name__}: {error}") from error
    return network


def export_network(
    run: str | os.PathLike[str], which: str, output: Path | None = None, trust_imports: bool = False
) -> tuple[Path, float]:
    """Write a run's plain network as safetensors, load it again strictly, and compare the logits.

    Args:
        run: folder of a finished run.
        which: "last" or "best".
        output: the file; None for `export/<which>.safetensors` in the run folder.
        trust_imports: let the run's recipe name `package.module:Name`, whose import runs code.
    Returns: the file, and the largest difference of a logit.
    Raises:
        RunError: if there is no such run or it is not finished.
        StorageError: if the file cannot be written.
        CheckpointError: if the checkpoint is damaged.
        ParityError: if the loaded network differs; no file is written, an older one stays.
    """
    folder = RunFolder.finished(Path(run))
    class_names, input_size = described(folder)
    num_classes = len(class_names)
    recipe = folder.recipe(trust_imports=trust_imports)
    trained = trained_network(folder, recipe, which, num_classes)
    path = output or folder.path / "export" / f"{which}.safetensors"
    exported = plain_network(recipe, num_classes)
    with written_whole(path) as unproven:  # an older file of that name stays until the new one is proven
        save_network(trained, unproven, {"class_names": class_names, "input_size": input_size, "epoch": which})
        try:
            load_network(exported, unproven)
            difference = check_parity(trained, exported, input_size, _PARITY_TOLERANCE)
        except SelfKDError:
            unproven.unlink(missing_ok=True)
            raise
    return path, difference


def described(folder: RunFolder) -> tuple[tuple[str, ...], tuple[int, int, int]]:
    """Class names and input size of a run, as its network's file has them.

    Raises: CheckpointError: if the file is damaged.
    """
    metadata = read_metadata(folder.network_file)
    try:
        channels, height, width = map(int, metadata["input_size"])
        return tuple(map(str, metadata["class_names"])), (channels, height, width)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder.network_file} does not describe its network: {error}") from error
