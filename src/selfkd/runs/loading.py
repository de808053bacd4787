"""A run's trained network: back in memory, or out as a file."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from torch import Tensor, nn

from selfkd.atomic_files import written_whole
from selfkd.backbones.staged import Staged
from selfkd.data.source import Source
from selfkd.errors import CheckpointError, RunError, StorageError
from selfkd.export.network_files import SUFFIX, check_parity, load_network, save_network
from selfkd.recipes.reader import Recipe
from selfkd.runs.networks import build_network
from selfkd.runs.output_place import output_place
from selfkd.runs.run_folder import RunFolder
from selfkd.training.checkpoint_files import epochs_in, has_sets, read_weights, weights_file
from selfkd.training.memory import memory_for

__all__ = [
    "LoadedRun",
    "chosen_weights",
    "export_network",
    "input_size_of",
    "load",
    "plain_network",
    "restore_network_file",
    "trained_network",
    "write_network_file",
]

_PARITY_TOLERANCE = 1e-6
_NEEDS_MEMORY = "close other programs, or do it where there is more"

_log = logging.getLogger("selfkd")


@dataclass(frozen=True)
class LoadedRun:
    """What a run leaves to be used.

    Args:
        network: plain, in eval mode, with the weights of the last epoch that was trained.
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
    """Load a run as a `LoadedRun`; of one that is not finished, the newest whole checkpoint, with a warning.

    Args:
        run: its folder.
        trust_imports: let the run's recipe name `package.module:Name`, whose import runs code.
    Raises:
        RunError: if there is no such run or it has no checkpoint yet.
        RecipeError: if its recipe names somebody's own code and that is not trusted.
        CheckpointError: if neither its network file nor a checkpoint is whole.
        MemoryExhaustedError: if there is too little memory.
    """
    folder = RunFolder.existing(Path(run))
    recipe = folder.recipe(trust_imports=trust_imports)
    with memory_for("loading the network", _NEEDS_MEMORY):
        network, _ = trained_network(folder, recipe, "last")
    transform = _source(recipe).inference_transform()
    return LoadedRun(network.eval(), folder.class_names(), transform, input_size_of(recipe), recipe)


def plain_network(recipe: Recipe, num_classes: int) -> nn.Module:
    """The recipe's network, untouched by any method, to be given weights; none are fetched."""
    network = build_network(recipe, num_classes, fresh=False)
    plain: nn.Module = network.network if isinstance(network, Staged) else network
    return plain


def trained_network(folder: RunFolder, recipe: Recipe, which: str) -> tuple[nn.Module, int]:
    """The plain network with a run's weights, and their epoch counted from 1, without building the method around it.

    The last epoch of a finished run comes from its network file, all others from a checkpoint. Where that file or its
    checksum is lost or damaged, both are made again; an older run, which has neither checksum nor checkpoint, is
    believed.

    Args:
        folder: a run.
        recipe: its recipe.
        which: "last" or "best".
    Raises:
        RunError: if the run has no such weights yet.
        CheckpointError: if what is needed is damaged or not of this network.
    """
    num_classes = len(folder.class_names())
    if which == "best" or not folder.is_finished:
        return _from_checkpoint(folder, recipe, which, num_classes)
    fault = folder.fault_of_network_file()
    if fault is None:
        try:
            return _from_network_file(folder, recipe, num_classes)
        except CheckpointError as error:
            fault = str(error)
    try:
        network, epoch = _from_checkpoint(folder, recipe, which, num_classes)
    except CheckpointError as error:
        if folder.network_file.is_file() and not folder.checksums_file.exists():
            return _from_network_file(folder, recipe, num_classes)
        raise CheckpointError(f"{fault}; it cannot be made again: {error}") from error
    _log.warning("%s; it is made again from the checkpoint", fault)
    try:
        with folder.locked():
            write_network_file(folder, network, folder.class_names(), input_size_of(recipe), epoch)
    except (RunError, StorageError) as error:
        _log.warning("%s; the network is used all the same", error)
    return network, epoch


def restore_network_file(folder: RunFolder, recipe: Recipe) -> None:
    """Make the network file of a finished run and its checksum again, where they are lost or damaged.

    Raises:
        CheckpointError: if there is no whole checkpoint to make them from.
        MemoryExhaustedError: if there is too little memory.
    """
    if folder.is_finished and folder.fault_of_network_file() is not None:
        with memory_for("loading the network", _NEEDS_MEMORY):
            trained_network(folder, recipe, "last")


def write_network_file(
    folder: RunFolder, network: nn.Module, class_names: tuple[str, ...], input_size: tuple[int, int, int], epoch: int
) -> None:
    """Write a run's plain network, and note its checksum.

    Raises: StorageError: if it cannot be written.
    """
    with written_whole(folder.network_file) as partial:
        save_network(network, partial, _described(class_names, input_size, epoch))
    folder.note_network_file()


def chosen_weights(folder: RunFolder, recipe: Recipe, which: str) -> Path:
    """The file with a run's weights; of a run that is not finished, which epoch they are of is said.

    Args:
        folder: a run.
        recipe: its recipe.
        which: "last" or "best".
    Raises:
        RunError: if the run has no such weights yet.
        CheckpointError: if no checkpoint is whole.
    """
    total = recipe.options["trainer"]["epochs"]
    if not folder.is_finished and not has_sets(folder.checkpoints):
        raise RunError(
            f"the run {folder.path} is not finished and has no checkpoint yet; the command that started it continues it"
        )
    try:
        file = weights_file(folder.checkpoints, which)
    except RunError as error:
        after = recipe.options["trainer"]["best_after_epoch"]
        counts = f"epoch after trainer.best_after_epoch={after}" if after < total else "epoch"
        raise RunError(f"{error}: no {counts} has been evaluated yet; --checkpoint last works") from error
    done = epochs_in(file.parent)
    if folder.is_finished and done != total:
        raise CheckpointError(
            f"{folder.path} is finished after {total} epochs, but its newest whole checkpoint is of epoch {done}"
        )
    if not folder.is_finished:
        _, epoch = read_weights(file)
        _log.warning(
            "%s is not finished: %d of %d epochs are done; the weights after epoch %d are used",
            folder.path,
            done,
            total,
            epoch,
        )
    return file


def export_network(
    run: str | os.PathLike[str],
    which: str,
    output: Path | None = None,
    trust_imports: bool = False,
    overwrite: bool = False,
) -> tuple[Path, float]:
    """Write a run's plain network as safetensors, load it again strictly, and compare the logits.

    Args:
        run: folder of a run; of one that is not finished, the newest whole checkpoint is exported, with a warning.
        which: "last" or "best".
        output: the file; None for `export/<which>.safetensors` in the run folder, which is replaced.
        trust_imports: let the run's recipe name `package.module:Name`, whose import runs code.
        overwrite: replace `output` if it exists.
    Returns: the file, and the largest difference of a logit.
    Raises:
        RunError: if there is no such run or it has no checkpoint yet.
        OptionError: if `output` is no place for such a file, or exists and is not to be replaced.
        StorageError: if the file cannot be written.
        CheckpointError: if the checkpoint is damaged.
        ParityError: if the loaded network differs; no file is written, an older one stays.
        MemoryExhaustedError: if there is too little memory.
    """
    folder = RunFolder.existing(Path(run))
    path = output or folder.path / "export" / f"{which}{SUFFIX}"
    ours = output is None and not path.parent.is_symlink() and not path.is_symlink()
    place = output_place(path, overwrite or ours, SUFFIX)
    recipe = folder.recipe(trust_imports=trust_imports)
    input_size = input_size_of(recipe)
    with memory_for("exporting", _NEEDS_MEMORY):
        trained, epoch = trained_network(folder, recipe, which)
        class_names = folder.class_names()
        exported = plain_network(recipe, len(class_names))
        # An older file of that name stays until the new one is proven.
        with written_whole(place, among_others=not ours) as unproven:
            save_network(trained, unproven, _described(class_names, input_size, epoch))
            load_network(exported, unproven)
            difference = check_parity(trained, exported, input_size, _PARITY_TOLERANCE)
    return path, difference


def _from_network_file(folder: RunFolder, recipe: Recipe, num_classes: int) -> tuple[nn.Module, int]:
    network = plain_network(recipe, num_classes)
    load_network(network, folder.network_file)
    return network, recipe.options["trainer"]["epochs"]


def _from_checkpoint(folder: RunFolder, recipe: Recipe, which: str, num_classes: int) -> tuple[nn.Module, int]:
    path = chosen_weights(folder, recipe, which)
    weights, epoch = read_weights(path, prefix="backbone.network.")
    network = plain_network(recipe, num_classes)
    try:
        network.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit {type(network).__name__}: {error}") from error
    return network, epoch


def _described(class_names: tuple[str, ...], input_size: tuple[int, int, int], epoch: int) -> dict[str, object]:
    """What goes with a network into its file; `epoch` counts from 1."""
    return {"class_names": class_names, "input_size": input_size, "epoch": epoch}


def _source(recipe: Recipe) -> Source:
    source: Source = recipe.target("data")(**recipe.options["data"])
    return source


def input_size_of(recipe: Recipe) -> tuple[int, int, int]:
    """(channels, height, width) of what any image becomes for a recipe's network."""
    channels, height, width = _source(recipe).inference_transform()(Image.new("RGB", (32, 32))).shape
    return channels, height, width
