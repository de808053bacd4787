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

from selfkd.backbones import as_staged
from selfkd.data.augmentation import Augmentation
from selfkd.data.resident import EvaluationLoader, LoaderOptions, TrainingLoader
from selfkd.data.source import ImageSet, Source, Splits
from selfkd.errors import OptionError, RunError
from selfkd.evaluation.scores import Scores, evaluate
from selfkd.export.network_files import save_network
from selfkd.methods.base import Method
from selfkd.recipes.reader import Recipe
from selfkd.runs.environment import environment
from selfkd.runs.run_folder import EpochScores, RunFolder, RunScores, Selection, write_json
from selfkd.training.epoch_log import read_epoch_log
from selfkd.training.fit import check_hardware, epochs_done, fit, load_weights
from selfkd.training.module import TrainingParts
from selfkd.training.options import TrainerOptions

__all__ = ["Experiment", "evaluate_run", "run"]

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
    def build(cls, recipe: Recipe, pretrained: bool = True) -> Experiment:
        """Read the data and build network and method.

        Args:
            recipe: what to build.
            pretrained: fetch pretrained weights if the recipe asks for them; not needed where a checkpoint follows.
        Raises: UserError: if data, network or options are not usable; nothing has been written by then.
        """
        source: Source = recipe.target("data")(**recipe.options["data"])
        splits = source.load(recipe.seed)
        torch.manual_seed(recipe.seed)
        network_options = dict(recipe.options["backbone"])
        if not pretrained and network_options.get("pretrained"):
            network_options["pretrained"] = False
        network = recipe.target("backbone")(len(splits.class_names), **network_options)
        backbone = as_staged(network, splits.info.input_size)
        try:
            method: Method = recipe.target("method")(backbone, splits.info, **recipe.options["method"])
        except OptionError as error:
            if "." in error.option:
                raise
            raise OptionError(f"method.{error.option}", error.value, error.allowed) from error
        return cls(recipe, source, splits, method)

    def training_parts(self) -> TrainingParts:
        """Loaders, optimiser and schedule, each tried, so that what cannot work is refused before anything is written.

        Raises: OptionError: if an option is out of range.
        """
        options, recipe = self.recipe.options, self.recipe
        selection_name, selection = self.splits.selection
        augmentation: Augmentation = recipe.target("augmentation")(**options["augmentation"])
        augmentation(self.splits.train.images[:1], augmentation.draw(1, torch.Generator()))
        loader_options: LoaderOptions = recipe.target("loader")(**options["loader"])
        loader = TrainingLoader(
            self.splits.train,
            augmentation,
            self.source.mean,
            self.source.std,
            loader_options.batch_size,
            recipe.seed,
            self.method.needs,
            options["trainer"]["channels_last"],
        )
        make_optimizer = partial(recipe.target("optimizer"), **options["optimizer"])
        make_schedule = partial(recipe.target("schedule"), **options["schedule"])
        make_schedule(make_optimizer(self.method.parameter_groups()), options["trainer"]["epochs"], len(loader))
        return TrainingParts(
            training_loader=loader,
            selection_loader=self.evaluation_loader(selection),
            selection_name=selection_name,
            make_optimizer=make_optimizer,
            make_schedule=make_schedule,
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


def run(recipe: Recipe, runs: Path, overwrite: bool = False, show_progress: bool = True) -> RunFolder:
    """Train a recipe to its end and leave a finished run folder; continue an unfinished one, keep a finished one.

    Args:
        recipe: what to train.
        runs: the folder of all runs.
        overwrite: start afresh, whatever is there.
        show_progress: whether there is a progress bar.
    Raises:
        RunError: if the folder holds another experiment or another process trains in it.
        UserError: if data, network or options are not usable.
        RunInterruptedError, NonFiniteLossError, CheckpointError, StorageError: as `fit` does.
    """
    folder = RunFolder.of(recipe, runs)
    if not overwrite:
        folder.check(recipe)
        if folder.scores_file.exists():
            _log.info("%s is finished; --overwrite trains it again", folder.path)
            return folder
    options: TrainerOptions = recipe.target("trainer")(**recipe.options["trainer"])
    check_hardware(options)
    experiment = Experiment.build(recipe, pretrained=overwrite or not folder.checkpoint("last").exists())
    parts = experiment.training_parts()
    method = experiment.method
    with folder.locked():
        folder.prepare(recipe, experiment.splits.fingerprint(), overwrite)
        if method.history is not None:
            _log.info("the history of predictions takes %.2f MB", method.history.nbytes / 1e6)
        done = epochs_done(folder.checkpoint("last"))
        if done:
            _log.info("%s continues after epoch %d of %d", folder.path, done, options.epochs)
        title = f"{recipe.parts['method']} seed {recipe.seed}"
        device = fit(method, parts, options, folder.path, title, show_progress)
        _finish(folder, experiment, options, device)
    return folder


def _finish(folder: RunFolder, experiment: Experiment, options: TrainerOptions, device: torch.device) -> None:
    """Write the network, the scores of the last and the best epoch, and the environment."""
    recipe, method, splits = experiment.recipe, experiment.method.to(device), experiment.splits
    save_network(
        method.deployed(),
        folder.network_file,
        {"class_names": splits.class_names, "input_size": splits.info.input_size, "epoch": "last"},
    )
    evaluated = {"train": splits.train, "test": splits.test}
    if splits.validation is not None:
        evaluated["validation"] = splits.validation

    def scores() -> dict[str, Scores]:
        return {name: evaluate(method, experiment.evaluation_loader(part), device) for name, part in evaluated.items()}

    last = EpochScores(epoch=options.epochs, scores=scores())
    best_file = folder.checkpoint("best")
    load_weights(method, best_file)
    best = EpochScores(epoch=epochs_done(best_file), scores=scores())
    selection_name, _ = splits.selection
    ruled = best["epoch"] > options.best_after_epoch  # else the run was too short for the rule, and all epochs counted
    record = RunScores(
        recipe=recipe.name,
        method=recipe.parts["method"],
        seed=recipe.seed,
        selection=Selection(rule=f"best-on-{selection_name}", after_epoch=options.best_after_epoch if ruled else 0),
        last=last,
        best=best,
        seconds=_seconds(folder),
        parameters={
            "deployed": sum(parameter.numel() for parameter in method.deployed().parameters()),
            "training": sum(parameter.numel() for parameter in method.parameters()),
        },
    )
    write_json(folder.environment_file, environment(device))
    write_json(folder.scores_file, record)


def _seconds(folder: RunFolder) -> dict[str, float | None]:
    """Time per epoch, from the run's own log; None where the log was switched off."""
    rows = read_epoch_log(folder.metrics_file)
    if not rows:
        return {"train_epoch_median": None, "train_total": None}
    train = [row["seconds/train"] for row in rows]
    return {"train_epoch_median": statistics.median(train), "train_total": sum(train)}


def evaluate_run(path: Path, split: str, which: str, places: Mapping[str, Any], trust_imports: bool = False) -> Scores:
    """Scores of every head of a finished run.

    Args:
        path: the run's folder.
        split: "test", "train" or "validation".
        which: weights of the "last" or the "best" epoch.
        places: `data.root`, if the data has moved.
        trust_imports: let the run's recipe name `package.module:Name`, whose import runs code.
    Raises:
        RunError: if there is no such run, it is not finished, or it has no such split.
        RecipeError: if `places` holds anything else.
        CheckpointError: if the checkpoint is damaged.
    """
    folder = RunFolder.finished(path)
    experiment = Experiment.build(folder.recipe(places, trust_imports), pretrained=False)
    if not folder.holds_data(experiment.splits.fingerprint()):
        _log.warning("%s was trained on other data than data.root gives now, or on data read differently", path)
    images = getattr(experiment.splits, split)
    if images is None:
        raise RunError(f"the run {path} held out no validation split; data.validation_fraction was 0")
    load_weights(experiment.method, folder.checkpoint(which))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return evaluate(experiment.method.to(device), experiment.evaluation_loader(images), device)
