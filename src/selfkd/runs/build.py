"""The parts of a run, built from its recipe: data, method, loaders, optimiser and schedule."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from selfkd.backbones.staged import Staged
from selfkd.contract import DatasetInfo
from selfkd.data.augmentation.augmentations import Augmentation
from selfkd.data.loading.batches import EvaluationBatches
from selfkd.data.loading.loaders import evaluation_loader, training_loader
from selfkd.data.sources.base import Source
from selfkd.data.splits import Split, Splits
from selfkd.errors import BackboneError
from selfkd.memories import History, HistoryOptions
from selfkd.methods import method_class
from selfkd.methods.base import Method
from selfkd.recipes.recipe import Recipe
from selfkd.recipes.weights_preprocessing import normalization_origin
from selfkd.runs.networks import build_network, staged_at
from selfkd.runs.starting_weights import load_starting_weights
from selfkd.teachers.teacher import Teacher
from selfkd.training.freezing import FrozenPart
from selfkd.training.memory_layout import trains_in_channels_last
from selfkd.training.module import TrainingParts
from selfkd.training.options import TrainerOptions
from selfkd.training.processes import World

__all__ = ["Experiment", "TeacherLoader", "build_evaluation_loader", "build_method", "needs_labels"]

TeacherLoader = Callable[[Source, Splits], Teacher]
"""Gives the teacher of a recipe, from the student's data set and images."""

_log = logging.getLogger("selfkd")


@dataclass(frozen=True)
class Experiment:
    """The parts of a run. Two recipes with one seed share the data, its order and the initial weights of the network.

    Args:
        recipe: describes the parts.
        source: the data set.
        splits: its images.
        method: the method, around its network.
    """

    recipe: Recipe
    source: Source
    splits: Splits
    method: Method

    @classmethod
    def build(cls, recipe: Recipe, pretrained: bool = True, teacher: TeacherLoader | None = None) -> Experiment:
        """Read the data and build network and method. Nothing is written.

        Args:
            recipe: describes the parts.
            pretrained: start from the weights that the recipe names. False where a checkpoint is loaded afterwards.
            teacher: loads the teacher, if the recipe has one.
        Raises: UserError: if data, network or options cannot be used.
        """
        source: Source = recipe.build("data")
        augmentation: Augmentation = recipe.build("augmentation")
        splits = source.load(recipe.seed, whole_images=augmentation.side_of_whole_images is not None)
        loaded_teacher = teacher(source, splits) if teacher is not None and "teacher" in recipe.parts else None
        torch.manual_seed(recipe.seed)
        return cls(recipe, source, splits, build_method(recipe, splits.info, pretrained, loaded_teacher))

    @property
    def dataset(self) -> DatasetInfo:
        """The description of the training set that the method gets, now and whenever it is built again."""
        return _dataset_for_method(self.recipe, self.splits.info)

    @property
    def channels_last(self) -> bool:
        """Whether to train in channels-last layout: if the recipe asks for it and the gradients are right in it."""
        return _uses_channels_last(self.recipe, self.method)

    def trainer_options(self) -> TrainerOptions:
        """How to train; the log says if channels-last layout was asked for and is not used."""
        options: TrainerOptions = self.recipe.build("trainer")
        if options.channels_last and not self.channels_last:
            _log.info("trained in contiguous layout: in channels-last, CPUs get narrow strided 1x1 convolutions wrong")
        return replace(options, channels_last=self.channels_last)

    def load_starting_weights(self) -> None:
        """Load the files of weights that the recipe names into networks that were built without them.

        Raises:
            OptionError: if a file does not exist.
            WeightsError: if a file is damaged or belongs to another network.
        """
        for section, staged in zip(("backbone", "peer"), self.method.networks, strict=False):
            _load_file(self.recipe, section, staged, self.splits.info.class_names)

    def configure_history(self, folder: Path) -> None:
        """Set where and in which form the method's histories are kept, and log their size.

        Args:
            folder: holds their files, if they are kept in files.
        """
        options: HistoryOptions = self.recipe.build("history")
        histories = [memory for memory in self.method.memories.values() if isinstance(memory, History)]
        for history in histories:
            history.configure(options, folder)
            _log.info("%s", history.described())
        if not histories and replace(options, storage="auto") != HistoryOptions():
            _log.info("history.top_k and history.dtype have no effect: %s keeps no history", type(self.method).__name__)

    def training_parts(self) -> TrainingParts:
        """Build loaders, optimiser and schedule.

        An optimiser and a schedule are built once for a try, so that a wrong option is refused before a file is
        written.

        Raises: OptionError: if an option is out of range.
        """
        recipe, epochs = self.recipe, self.recipe.options["trainer"]["epochs"]
        selection_name, selection = self.splits.selection
        loader = training_loader(
            self.splits.train,
            recipe.build("augmentation"),
            self.source.mean,
            self.source.std,
            recipe.build("loader"),
            recipe.seed,
            self.method.needs,
            self.channels_last,
            len(self.splits.class_names),
            recipe.build("regularization"),
        )
        # The rank is not known yet. It is set once the processes are connected.
        loader.set_shard(0, World.of(recipe.build("trainer")).size)
        parts = TrainingParts(
            training_loader=loader,
            selection_loader=self.evaluation_loader(selection),
            selection_name=selection_name,
            make_optimizer=partial(recipe.build, "optimizer"),
            make_schedule=partial(recipe.build, "schedule"),
            seed=recipe.seed,
            learning_rates=recipe.common("optimizer"),
        )
        frozen = FrozenPart(self.method.networks, recipe.build("trainer"))
        parts.make_schedule(parts.optimizer(self.method, frozen), epochs, len(loader))
        return parts

    def evaluation_loader(self, split: Split) -> EvaluationBatches[Any]:
        """Build the loader that evaluates a split."""
        return build_evaluation_loader(self.recipe, self.source, self.method, split)


def build_evaluation_loader(recipe: Recipe, source: Source, method: Method, split: Split) -> EvaluationBatches[Any]:
    """Build the loader that evaluates a method on images, which are normalised as the recipe says.

    Args:
        recipe: describes the loader.
        source: the recipe's data set, of which nothing is read.
        method: the recipe's method.
        split: the images.
    """
    options, channels_last = recipe.build("loader"), _uses_channels_last(recipe, method)
    return evaluation_loader(split, source.mean, source.std, options, channels_last)


def needs_labels(recipe: Recipe) -> bool:
    """Whether the recipe's method needs the label of every training sample when it is built."""
    return method_class(recipe.parts["method"]).needs.labels


def build_method(recipe: Recipe, data: DatasetInfo, pretrained: bool, teacher: Teacher | None = None) -> Method:
    """Build the recipe's method around its network.

    Args:
        recipe: names method and network.
        data: describes the training set, whose images are not needed. Only a method that needs labels gets them.
        pretrained: start from the weights that the recipe names; see `build_network`.
        teacher: the teacher, if the recipe has one.
    Raises:
        UserError: if network, method or their options cannot be used.
        WeightsError: if a file of weights is damaged or belongs to another network.
    """
    backbone = _staged(recipe, data, pretrained, "backbone")
    parts: dict[str, Any] = {} if teacher is None else {"teacher": teacher}
    if "peer" in recipe.parts:  # built after the backbone, whose initial weights are then those of any other method
        parts["peer"] = _staged(recipe, data, pretrained, "peer")
    if "supervision" in recipe.parts:
        parts["supervision"] = recipe.build("supervision")
    method: Method = recipe.build("method", backbone, _dataset_for_method(recipe, data), **parts)
    return method


def _staged(recipe: Recipe, data: DatasetInfo, pretrained: bool, section: Literal["backbone", "peer"]) -> Staged:
    """Build a network with the weights that it starts from. The arguments are those of `build_method`."""
    if data.input_size is None:
        raise BackboneError("a method needs the size of the images; DatasetInfo.input_size is None")
    staged = staged_at(build_network(recipe, data.num_classes, pretrained, section), data.input_size)
    if pretrained:
        _load_file(recipe, section, staged, data.class_names)
    return staged


def _load_file(recipe: Recipe, section: str, staged: Staged, class_names: tuple[str, ...] | None) -> None:
    file = recipe.file_of_weights(section)
    if file is not None:
        if section == "backbone" and (origin := normalization_origin(recipe)) is not None:
            _log.info("%s", origin)
        load_starting_weights(staged, file, f"{section}.weights", f"{section}={recipe.parts[section]}", class_names)


def _uses_channels_last(recipe: Recipe, method: Method) -> bool:
    asked: bool = recipe.options["trainer"]["channels_last"]
    return asked and trains_in_channels_last(method)


def _dataset_for_method(recipe: Recipe, data: DatasetInfo) -> DatasetInfo:
    return data if needs_labels(recipe) else replace(data, labels=None)
