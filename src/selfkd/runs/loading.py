"""Load what a run trained: from its folder back to its network, or to its method with all heads."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor, nn

from selfkd.contract import DatasetInfo
from selfkd.data.sources.base import Source
from selfkd.errors import CheckpointError, RunError, StorageError
from selfkd.export.network_files import load_network
from selfkd.export.network_metadata import NetworkMetadata
from selfkd.given_paths import expanded
from selfkd.methods.base import Method
from selfkd.option_checks import one_of
from selfkd.recipes.recipe import Recipe
from selfkd.runs.build import build_method, needs_labels
from selfkd.runs.data_record import class_names_of, dataset_of
from selfkd.runs.network_file import network_file_fault, network_metadata, write_network_file
from selfkd.runs.networks import plain_network
from selfkd.runs.run_folder import RunFolder
from selfkd.teachers.teacher import Teacher
from selfkd.training.checkpoint_content import load_weights, read_weights
from selfkd.training.checkpoint_files import weights_file
from selfkd.training.checkpoint_names import epochs_in, has_checkpoints
from selfkd.training.memory import memory_for
from selfkd.training.module import METHOD, NETWORK

__all__ = ["MORE_MEMORY", "SavedRun", "load_method"]

MORE_MEMORY = "close other programs, or use a machine with more memory"
"""Advice where a saved network needs more memory than there is."""

_log = logging.getLogger("selfkd")


def load_method(run: str | os.PathLike[str], checkpoint: str = "last", *, trust_imports: bool = False) -> Method:
    """Load the method that a run trained, in eval mode on the CPU. The run's data is not read.

    An unfinished run is loaded from its newest undamaged checkpoint, with a warning.

    Args:
        run: its folder.
        checkpoint: weights of the "last" or the "best" epoch.
        trust_imports: let the run's recipe name `package.module:Name`, whose import runs code.
    Raises:
        OptionError: if `checkpoint` is neither.
        RunError: if there is no such run, it has no such weights yet, an older version left it unfinished, or it does
            not hold the labels that its method needs.
        RecipeError: if its recipe names code of the user's own and that is not trusted.
        CheckpointError: if every checkpoint is damaged.
        MemoryExhaustedError: if there is too little memory.
    """
    saved = SavedRun.open(run, checkpoint, trust_imports=trust_imports)
    with memory_for("loading the method", MORE_MEMORY):
        return saved.method().eval()


@dataclass(frozen=True)
class SavedRun:
    """A run's folder and recipe, from which its network and its method are built again with their weights.

    Args:
        folder: the run's folder. The run may be unfinished.
        recipe: the run's recipe.
        checkpoint: weights of the "last" or the "best" epoch.
    """

    folder: RunFolder
    recipe: Recipe
    checkpoint: str = "last"

    @classmethod
    def open(
        cls,
        run: str | os.PathLike[str],
        checkpoint: str = "last",
        overrides: Mapping[str, Any] | None = None,
        trust_imports: bool = False,
    ) -> SavedRun:
        """Open a run that has begun.

        Args:
            run: its folder.
            checkpoint: weights of the "last" or the "best" epoch.
            overrides: options of the machine, such as `data.root` where the data has moved, or `loader.workers`.
            trust_imports: let the run's recipe name `package.module:Name`, whose import runs code.
        Raises:
            OptionError: if `checkpoint` is neither.
            RunError: if there is no such run.
            RecipeError: if the recipe is damaged or names code of the user's own that is not trusted, or if `overrides`
                holds any other option.
        """
        one_of("checkpoint", checkpoint, ("last", "best"))
        folder = RunFolder.existing(expanded(run))
        return cls(folder, folder.recipe(overrides, trust_imports), checkpoint)

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """K names in label order.

        Raises: RunError: if no file holds them, or a file is damaged.
        """
        names = class_names_of(self.folder)
        if names is None:
            raise RunError(
                f"the run {self.folder.path} does not say yet which classes it has; {self._advice_to_continue}"
            )
        return names

    @cached_property
    def transform(self) -> Callable[[Image.Image], Tensor]:
        """Turns a PIL image into the normalised `[C, H, W]` tensor that the network takes."""
        source: Source = self.recipe.build("data")
        return source.inference_transform()

    @cached_property
    def input_size(self) -> tuple[int, int, int]:
        """(channels, height, width) of every image after `transform`."""
        channels, height, width = self.transform(Image.new("RGB", (32, 32))).shape
        return channels, height, width

    @cached_property
    def weights(self) -> Path:
        """The checkpoint file with the run's weights. Of an unfinished run, the log says which epoch they are from.

        Raises:
            RunError: if the run has no such weights yet.
            CheckpointError: if every checkpoint is damaged.
        """
        folder, options = self.folder, self.recipe.options["trainer"]
        total = options["epochs"]
        if not folder.is_finished and not has_checkpoints(folder.checkpoints):
            raise RunError(
                f"the run {folder.path} is not finished and has no checkpoint yet; continue it with the command that "
                "started it"
            )
        try:
            file = weights_file(folder.checkpoints, self.checkpoint)
        except RunError as error:
            after = options["best_after_epoch"]
            epoch = f"epoch after trainer.best_after_epoch={after}" if after < total else "epoch"
            raise RunError(f"{error}, because no {epoch} has been evaluated yet; use --checkpoint last") from error
        done = epochs_in(file.parent)
        if folder.is_finished and done != total:
            raise CheckpointError(
                f"{folder.path} is finished after {total} epochs, but its newest undamaged checkpoint is from epoch "
                f"{done}"
            )
        if not folder.is_finished:
            _, epoch_of_weights = read_weights(file)
            _log.warning(
                "%s is not finished: %d of %d epochs are done; the weights after epoch %d are used",
                folder.path,
                done,
                total,
                epoch_of_weights,
            )
        return file

    def method(self, data: DatasetInfo | None = None) -> Method:
        """Build the method with the run's weights, on the CPU, with empty memories: no training can continue from it.

        A teacher is represented by its record alone, without its network.

        Args:
            data: describes the run's data, if it was read. It replaces what the run's files do not hold.
        Raises:
            RunError: if there are no such weights yet, or neither the run nor `data` gives the number of training
                images, or the labels that the method needs.
            CheckpointError: if the weights are damaged or belong to another method.
        """
        dataset = self._dataset(data)
        weights = self.weights
        teacher = Teacher.from_record(self.folder.teacher()) if "teacher" in self.recipe.parts else None
        method = build_method(self.recipe, dataset, pretrained=False, teacher=teacher)
        load_weights(method, weights, METHOD)
        return method

    def network(self) -> tuple[nn.Module, int]:
        """Build the plain network with the run's weights. Also returns their epoch, counted from 1.

        The last epoch of a finished run is read from its network file, which works without checkpoints. All other
        weights come from a checkpoint. Where the network file or its checksum is lost or damaged, both are written
        again from the checkpoint. A run of an older version may have neither checksum nor checkpoint; its network file
        is used as it is.

        Raises:
            RunError: if the run has no such weights yet.
            CheckpointError: if the file is damaged or belongs to another network.
        """
        folder = self.folder
        if self.checkpoint == "best" or not folder.is_finished:
            return self._network_of_checkpoint()
        fault = network_file_fault(folder)
        if fault is None:
            try:
                return self._network_of_file()
            except CheckpointError as error:
                fault = str(error)
        try:
            network, epoch = self._network_of_checkpoint()
        except CheckpointError as error:
            if folder.network_file.is_file() and not folder.checksums_file.exists():
                return self._network_of_file()
            raise CheckpointError(f"{fault}; it cannot be written again: {error}") from error
        _log.warning("%s; it is written again from the checkpoint", fault)
        try:
            with folder.locked():
                write_network_file(folder, network, self.metadata(epoch))
        except (RunError, StorageError) as error:
            _log.warning("%s; the network is used anyway", error)
        return network, epoch

    def metadata(self, epoch: int) -> NetworkMetadata:
        """What a file with the network's weights after an epoch says beside them."""
        return network_metadata(self.recipe.build("data"), self.class_names, self.input_size, epoch)

    def restore_network_file(self) -> None:
        """Write the network file of a finished run and its checksum again, if they are lost or damaged.

        Raises:
            CheckpointError: if there is no undamaged checkpoint to read the network from.
            MemoryExhaustedError: if there is too little memory.
        """
        if self.folder.is_finished and network_file_fault(self.folder) is not None:
            with memory_for("loading the network", MORE_MEMORY):
                replace(self, checkpoint="last").network()

    @property
    def _advice_to_continue(self) -> str:
        """What to do if the run's files lack what today's version writes before the first epoch."""
        if has_checkpoints(self.folder.checkpoints):
            return (
                "an older version of selfkd left it unfinished; try the command that started it, or finish it with "
                "that version"
            )
        return "continue it with the command that started it"

    def _dataset(self, data: DatasetInfo | None) -> DatasetInfo:
        """The description of the training set that the method got."""
        path = self.folder.path
        dataset = dataset_of(self.folder, self.input_size) or data
        if dataset is None:
            raise RunError(f"the run {path} does not say yet what it was trained on; {self._advice_to_continue}")
        if not needs_labels(self.recipe) or dataset.labels is not None:
            return dataset
        if data is None or data.labels is None or data.num_samples != dataset.num_samples:
            raise RunError(
                f"the run {path} does not hold the labels of its {dataset.num_samples} training images, which its "
                f"method {self.recipe.parts['method']} needs; 'selfkd evaluate' takes them from the data, if the data "
                "has as many images"
            )
        return replace(dataset, labels=data.labels)

    def _network_of_file(self) -> tuple[nn.Module, int]:
        network = plain_network(self.recipe, len(self.class_names))
        load_network(network, self.folder.network_file)
        return network, self.recipe.options["trainer"]["epochs"]

    def _network_of_checkpoint(self) -> tuple[nn.Module, int]:
        num_classes = len(self.class_names)  # where these are unknown, nothing is said of the weights
        weights = self.weights
        network = plain_network(self.recipe, num_classes)
        return network, load_weights(network, weights, NETWORK)
