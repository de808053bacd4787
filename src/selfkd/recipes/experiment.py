"""From a recipe to a trained network: build the parts, train, evaluate, write the run folder."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from selfkd.backbones.staged import Staged, stage
from selfkd.data.resident import EvaluationLoader, TrainingLoader
from selfkd.data.source import ImageSet, Source, Splits
from selfkd.errors import RunError
from selfkd.evaluation.scores import Scores, evaluate
from selfkd.export.network_files import save_network
from selfkd.methods.base import Method
from selfkd.recipes.environment import environment
from selfkd.recipes.reader import Recipe
from selfkd.recipes.run_folder import RunFolder, write_json
from selfkd.training.epoch_log import read_epoch_log
from selfkd.training.fit import epochs_done, fit, load_weights
from selfkd.training.module import TrainingParts

__all__ = ["Experiment", "build_backbone", "evaluate_run", "run"]

_log = logging.getLogger("selfkd")


@dataclass(frozen=True)
class Experiment:
    """The parts of a run, built from its recipe. Two recipes with one seed share data, order and initial weights.

    Args:
        recipe: what was built.
        source: the data set.
        splits: its images.
        method: untrained.
    """

    recipe: Recipe
    source: Source
    splits: Splits
    method: Method

    @classmethod
    def build(cls, recipe: Recipe) -> Experiment:
        """Read the data and build network and method.

        Raises: UserError: if data, network or options are not usable; nothing has been written by then.
        """
        source: Source = recipe.target("data")(**recipe.options["data"])
        splits = source.load(recipe.seed)
        torch.manual_seed(recipe.seed)
        backbone = build_backbone(recipe, len(splits.class_names), splits.info.input_size)
        method: Method = recipe.target("method")(backbone, splits.info, **recipe.options["method"])
        return cls(recipe, source, splits, method)

    def training_parts(self) -> TrainingParts:
        """Loaders, optimiser and schedule."""
        options, recipe = self.recipe.options, self.recipe
        selection_name, selection = self.splits.selection
        return TrainingParts(
            training_loader=TrainingLoader(
                self.splits.train,
                recipe.target("augmentation")(**options["augmentation"]),
                self.source.mean,
                self.source.std,
                options["loader"]["batch_size"],
                recipe.seed,
                self.method.needs,
                options["trainer"]["channels_last"],
            ),
            selection_loader=self.evaluation_loader(selection),
            selection_name=selection_name,
            make_optimizer=partial(recipe.target("optimizer"), **options["optimizer"]),
            make_schedule=partial(recipe.target("schedule"), **options["schedule"]),
            seed=recipe.seed,
        )

    def evaluation_loader(self, images: ImageSet) -> EvaluationLoader:
        """A split, ready to be evaluated."""
        loader_options = self.recipe.target("loader")(**self.recipe.options["loader"])
        return EvaluationLoader(
            images,
            self.source.mean,
            self.source.std,
            loader_options.evaluation_batch_size,
            self.recipe.options["trainer"]["channels_last"],
        )


def build_backbone(recipe: Recipe, num_classes: int, input_size: tuple[int, int, int] | None) -> Staged:
    """The recipe's network, freshly initialised, staged.

    Args:
        recipe: names the network and its options.
        num_classes: K.
        input_size: (channels, height, width) of the data.
    Raises: BackboneError: if the network cannot be built or staged so.
    """
    return stage(recipe.target("backbone")(num_classes, **recipe.options["backbone"]), input_size=input_size)


def run(recipe: Recipe, runs: Path, overwrite: bool = False, show_progress: bool = True) -> RunFolder:
    """Train a recipe to its end and leave a finished run folder; continue an unfinished one, keep a finished one.

    Args:
        recipe: what to train.
        runs: the folder of all runs.
        overwrite: start afresh, whatever is there.
        show_progress: whether there is a progress bar.
    Raises:
        RunError: if the folder holds another experiment.
        UserError: if data, network or options are not usable.
        RunInterruptedError, NonFiniteLossError, CheckpointError: as `fit` does.
    """
    folder = RunFolder.of(recipe, runs)
    if folder.scores_file.exists() and not overwrite:
        folder.prepare(recipe, overwrite=False)
        _log.info("%s is finished; --overwrite trains it again", folder.path)
        return folder
    experiment = Experiment.build(recipe)
    parts = experiment.training_parts()
    trainer_options = recipe.target("trainer")(**recipe.options["trainer"])
    folder.prepare(recipe, overwrite)
    method = experiment.method
    if method.history is not None:
        _log.info("the history of predictions takes %.2f MB", method.history.nbytes / 1e6)
    done = epochs_done(folder.checkpoint("last"))
    if done:
        _log.info("%s continues after epoch %d of %d", folder.path, done, trainer_options.epochs)
    title = f"{recipe.parts['method']} seed {recipe.seed}"
    device = fit(method, parts, trainer_options, folder.path, title, show_progress)
    _finish(folder, experiment, device)
    return folder


def _finish(folder: RunFolder, experiment: Experiment, device: torch.device) -> None:
    """Write the network, the scores of the last and the best epoch, and the environment."""
    recipe, method, splits = experiment.recipe, experiment.method.to(device), experiment.splits
    info = splits.info
    save_network(
        method.deployed(),
        folder.network_file,
        {"class_names": splits.class_names, "input_size": info.input_size, "epoch": "last"},
    )
    evaluated = {"train": splits.train, "test": splits.test}
    if splits.validation is not None:
        evaluated["validation"] = splits.validation

    def scores() -> dict[str, Scores]:
        return {name: evaluate(method, experiment.evaluation_loader(part), device) for name, part in evaluated.items()}

    last = {"epoch": recipe.options["trainer"]["epochs"], "scores": scores()}
    load_weights(method, folder.checkpoint("best"))
    best_epoch = epochs_done(folder.checkpoint("best"))
    selection_name, _ = splits.selection
    write_json(folder.environment_file, environment(device))
    write_json(
        folder.scores_file,
        {
            "recipe": recipe.name,
            "method": recipe.parts["method"],
            "seed": recipe.seed,
            "selection": {
                "rule": f"best-on-{selection_name}",
                "after_epoch": recipe.options["trainer"]["best_after_epoch"],
            },
            "last": last,
            "best": {"epoch": best_epoch, "scores": scores()},
            "seconds": _seconds(folder),
            "parameters": {
                "deployed": sum(parameter.numel() for parameter in method.deployed().parameters()),
                "training": sum(parameter.numel() for parameter in method.parameters()),
            },
        },
    )


def _seconds(folder: RunFolder) -> dict[str, Any]:
    """Time per epoch, from the run's own log; None where the log was switched off."""
    rows = read_epoch_log(folder.metrics_file)
    if not rows:
        return {"train_epoch_median": None, "train_total": None}
    train = [row["seconds/train"] for row in rows]
    return {"train_epoch_median": statistics.median(train), "train_total": sum(train)}


def evaluate_run(path: Path, split: str, which: str, places: Mapping[str, Any]) -> Scores:
    """Scores of every head of a finished run.

    Args:
        path: the run's folder.
        split: "test", "train" or "validation".
        which: weights of the "last" or the "best" epoch.
        places: `data.root`, if the data has moved.
    Raises:
        RunError: if there is no such run, it is not finished, or it has no such split.
        RecipeError: if `places` holds anything else.
        CheckpointError: if the checkpoint is damaged.
    """
    folder = RunFolder.finished(path)
    experiment = Experiment.build(folder.recipe(places))
    images = getattr(experiment.splits, split)
    if images is None:
        raise RunError(f"the run {path} held out no validation split; data.validation_fraction was 0")
    load_weights(experiment.method, folder.checkpoint(which))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return evaluate(experiment.method.to(device), experiment.evaluation_loader(images), device)
