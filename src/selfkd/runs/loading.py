"""The one way back from a run's folder to its network and its method, and the network out as a file."""

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

from selfkd.atomic_files import written_whole
from selfkd.contract import DatasetInfo
from selfkd.errors import CheckpointError, RunError, StorageError
from selfkd.export.network_files import SUFFIX, check_parity, load_network, save_network
from selfkd.methods.base import Method
from selfkd.option_checks import one_of
from selfkd.recipes.recipe import Recipe
from selfkd.runs.building import build_method, build_source, needs_labels
from selfkd.runs.networks import plain_network
from selfkd.runs.output_place import output_place
from selfkd.runs.run_folder import RunFolder
from selfkd.teachers.teacher import Teacher
from selfkd.training.checkpoint_files import epochs_in, has_checkpoints, load_weights, read_weights, weights_file
from selfkd.training.memory import memory_for
from selfkd.training.module import METHOD, NETWORK

__all__ = [
    "LoadedRun",
    "SavedRun",
    "export_network",
    "load",
    "load_method",
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
    saved = SavedRun.open(run, trust_imports=trust_imports)
    with memory_for("loading the network", _NEEDS_MEMORY):
        network, _ = saved.network()
    return LoadedRun(network.eval(), saved.class_names, saved.transform, saved.input_size, saved.recipe)


def load_method(run: str | os.PathLike[str], which: str = "last", trust_imports: bool = False) -> Method:
    """The method that a run trained, on the CPU, in eval mode, with its weights; the run's data is not read.

    Of a run that is not finished it has those of the newest whole checkpoint, with a warning.

    Args:
        run: its folder.
        which: weights of the "last" or the "best" epoch.
        trust_imports: let the run's recipe name `package.module:Name`, whose import runs code.
    Raises:
        OptionError: if `which` is neither.
        RunError: if there is no such run, it has no such weights yet, an older version left it unfinished, or it has no
            note of the labels, which its method needs.
        RecipeError: if its recipe names somebody's own code and that is not trusted.
        CheckpointError: if no checkpoint is whole.
        MemoryExhaustedError: if there is too little memory.
    """
    saved = SavedRun.open(run, which, trust_imports=trust_imports)
    with memory_for("loading the method", _NEEDS_MEMORY):
        return saved.method().eval()


@dataclass(frozen=True)
class SavedRun:
    """A run as its folder keeps it, finished or not: its weights, and what is needed to build what they belong to.

    Args:
        folder: of the run.
        recipe: that it stored.
        which: weights of the "last" or the "best" epoch.
    """

    folder: RunFolder
    recipe: Recipe
    which: str = "last"

    @classmethod
    def open(
        cls,
        run: str | os.PathLike[str],
        which: str = "last",
        places: Mapping[str, Any] | None = None,
        trust_imports: bool = False,
    ) -> SavedRun:
        """Open a run that has begun.

        Args:
            run: its folder.
            which: weights of the "last" or the "best" epoch.
            places: `data.root`, if the data has moved; `loader.workers` and the like, if the machine is another.
            trust_imports: let the run's recipe name `package.module:Name`, whose import runs code.
        Raises:
            OptionError: if `which` is neither.
            RunError: if there is no such run.
            RecipeError: if its recipe is damaged, names somebody's own code that is not trusted, or `places` holds
                anything else.
        """
        one_of("which", which, ("last", "best"))
        folder = RunFolder.existing(Path(run))
        return cls(folder, folder.recipe(places, trust_imports), which)

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """K names in label order.

        Raises: RunError: if they are not noted, or a file is damaged.
        """
        return self.folder.class_names()

    @cached_property
    def transform(self) -> Callable[[Image.Image], Tensor]:
        """From a PIL image to the normalised `[C, H, W]` that the network takes."""
        return build_source(self.recipe).inference_transform()

    @cached_property
    def input_size(self) -> tuple[int, int, int]:
        """(channels, height, width) of what any image becomes for the network."""
        channels, height, width = self.transform(Image.new("RGB", (32, 32))).shape
        return channels, height, width

    @cached_property
    def dataset(self) -> DatasetInfo | None:
        """What the method was told of its training set; None in what an older version left unfinished.

        Raises: RunError: if a file is damaged.
        """
        return self.folder.dataset(self.input_size)

    @cached_property
    def weights(self) -> Path:
        """The checkpoint's file with the run's weights; of an unfinished run, which epoch they are of is said.

        Raises:
            RunError: if the run has no such weights yet.
            CheckpointError: if no checkpoint is whole.
        """
        folder, options = self.folder, self.recipe.options["trainer"]
        total = options["epochs"]
        if not folder.is_finished and not has_checkpoints(folder.checkpoints):
            raise RunError(
                f"the run {folder.path} is not finished and has no checkpoint yet; the command that started it "
                "continues it"
            )
        try:
            file = weights_file(folder.checkpoints, self.which)
        except RunError as error:
            after = options["best_after_epoch"]
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

    def method(self, at_hand: DatasetInfo | None = None) -> Method:
        """The method with the run's weights, on the CPU. It remembers nothing: no training can continue from it.

        Of a teacher there is the run's record alone.

        Args:
            at_hand: its data, where that was read, which says what the run does not note (`dataset`).
        Raises:
            RunError: if there are no such weights yet, or nothing says how many images it was trained on, or their
                labels, which its method needs.
            CheckpointError: if they are damaged or of another method.
        """
        data = self.dataset or at_hand
        if data is None:
            raise RunError(
                f"the run {self.folder.path} does not say yet what it was trained on; the command that started it "
                "continues it"
            )
        if data.labels is None and at_hand is not None and at_hand.num_samples == data.num_samples:
            data = replace(data, labels=at_hand.labels)
        if data.labels is None and needs_labels(self.recipe):
            raise RunError(
                f"the run {self.folder.path} has no note of the labels of its {data.num_samples} training images, "
                f"which its method {self.recipe.parts['method']} needs; 'selfkd evaluate' takes them from the data "
                "itself, if it has as many"
            )
        weights = self.weights
        teacher = Teacher.from_record(self.folder.teacher()) if "teacher" in self.recipe.parts else None
        method = build_method(self.recipe, data, fresh=False, teacher=teacher)
        load_weights(method, weights, METHOD)
        return method

    def network(self) -> tuple[nn.Module, int]:
        """The plain network with the run's weights, and their epoch counted from 1.

        The last epoch of a finished run comes from its network file, which is there when checkpoints are gone; all
        others from the method's checkpoint, without the rest of the method. Where that file or its checksum is lost or
        damaged, both are made again; an older run, which has neither checksum nor checkpoint, is believed.

        Raises:
            RunError: if the run has no such weights yet.
            CheckpointError: if what is needed is damaged or not of this network.
        """
        folder, names = self.folder, self.class_names
        if self.which == "best" or not folder.is_finished:
            return self._from_checkpoint()
        fault = folder.fault_of_network_file()
        if fault is None:
            try:
                return self._from_network_file()
            except CheckpointError as error:
                fault = str(error)
        try:
            network, epoch = self._from_checkpoint()
        except CheckpointError as error:
            if folder.network_file.is_file() and not folder.checksums_file.exists():
                return self._from_network_file()
            raise CheckpointError(f"{fault}; it cannot be made again: {error}") from error
        _log.warning("%s; it is made again from the checkpoint", fault)
        try:
            with folder.locked():
                write_network_file(folder, network, names, self.input_size, epoch)
        except (RunError, StorageError) as error:
            _log.warning("%s; the network is used all the same", error)
        return network, epoch

    def restore_network_file(self) -> None:
        """Make the network file of a finished run and its checksum again, where they are lost or damaged.

        Raises:
            CheckpointError: if there is no whole checkpoint to make them from.
            MemoryExhaustedError: if there is too little memory.
        """
        if self.folder.is_finished and self.folder.fault_of_network_file() is not None:
            with memory_for("loading the network", _NEEDS_MEMORY):
                replace(self, which="last").network()

    def _from_network_file(self) -> tuple[nn.Module, int]:
        network = plain_network(self.recipe, len(self.class_names))
        load_network(network, self.folder.network_file)
        return network, self.recipe.options["trainer"]["epochs"]

    def _from_checkpoint(self) -> tuple[nn.Module, int]:
        weights = self.weights
        network = plain_network(self.recipe, len(self.class_names))
        return network, load_weights(network, weights, NETWORK)


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
    saved = SavedRun.open(folder.path, which, trust_imports=trust_imports)
    with memory_for("exporting", _NEEDS_MEMORY):
        trained, epoch = saved.network()
        exported = plain_network(saved.recipe, len(saved.class_names))
        # An older file of that name stays until the new one is proven.
        with written_whole(place, among_others=not ours) as unproven:
            save_network(trained, unproven, _described(saved.class_names, saved.input_size, epoch))
            load_network(exported, unproven)
            difference = check_parity(trained, exported, saved.input_size, _PARITY_TOLERANCE)
    return path, difference


def write_network_file(
    folder: RunFolder, network: nn.Module, class_names: tuple[str, ...], input_size: tuple[int, int, int], epoch: int
) -> None:
    """Write a run's plain network, and note its checksum.

    Raises: StorageError: if it cannot be written.
    """
    with written_whole(folder.network_file) as partial:
        save_network(network, partial, _described(class_names, input_size, epoch))
    folder.note_network_file()


def _described(class_names: tuple[str, ...], input_size: tuple[int, int, int], epoch: int) -> dict[str, object]:
    """What goes with a network into its file; `epoch` counts from 1."""
    return {"class_names": class_names, "input_size": input_size, "epoch": epoch}
