"""From a recipe to a trained network: build the parts, train, evaluate, write the run folder."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from selfkd.contract import DatasetInfo
from selfkd.data.augmentation.augmentations import Augmentation
from selfkd.data.doctor.checking import training_warnings
from selfkd.data.loading.batches import EvaluationBatches
from selfkd.data.loading.loaders import evaluation_loader, training_loader
from selfkd.data.loading.streaming import killed_workers_named
from selfkd.data.sources.base import Source
from selfkd.data.splits import Split, Splits
from selfkd.errors import CheckpointError, DataError, NonFiniteLossError, RunError
from selfkd.evaluation.metrics import evaluate
from selfkd.evaluation.scores import Scores
from selfkd.given_paths import check_path
from selfkd.memories import History, HistoryOptions
from selfkd.methods.base import Method
from selfkd.process_group import broadcast_from_main
from selfkd.recipes.recipe import Recipe
from selfkd.recipes.teacher_recipes import teachers_first
from selfkd.runs.building import build_method, build_source, told
from selfkd.runs.checkup import stem_of
from selfkd.runs.environment import environment
from selfkd.runs.loading import SavedRun, write_network_file
from selfkd.runs.records import EpochScores, OwnBest, RunScores, Selection, SplitRecord, write_json
from selfkd.runs.run_folder import RunFolder
from selfkd.runs.teachers import load_teacher, record_at_hand, untrained_teacher
from selfkd.teachers.teacher import Teacher
from selfkd.training.checkpoint_files import has_checkpoints, keep_newest, load_weights, weights_file
from selfkd.training.epoch_log import read_epoch_log
from selfkd.training.fit import check_hardware, connect, fit
from selfkd.training.memory import memory_for, memory_to_evaluate
from selfkd.training.memory_layout import trains_in_channels_last
from selfkd.training.module import METHOD, MethodModule, TrainingParts
from selfkd.training.options import TrainerOptions
from selfkd.training.processes import World, is_main_process, start
from selfkd.training.signals import stopping_on_signals
from selfkd.training.threads import choose_threads, threads_restored
from selfkd.training.training_module import SelectionMetric

__all__ = ["Experiment", "evaluate_run", "run"]

_BUILDING = "reading the data and building the network"
_BUILT_SMALLER = "a smaller network or smaller images might fit, as a run of its own"

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
    def build(
        cls, recipe: Recipe, pretrained: bool = True, teacher: Callable[[Source, Splits], Teacher] | None = None
    ) -> Experiment:
        """Read the data and build network and method.

        Args:
            recipe: what to build.
            pretrained: begin from the weights that the recipe names; not needed where a checkpoint follows.
            teacher: gives that of a recipe that has one, for its data.
        Raises: UserError: if data, network or options are not usable; nothing has been written by then.
        """
        source = build_source(recipe)
        augmentation: Augmentation = recipe.build("augmentation")
        splits = source.load(recipe.seed, whole_images=augmentation.side_of_whole_images is not None)
        taught_by = teacher(source, splits) if teacher is not None and "teacher" in recipe.parts else None
        torch.manual_seed(recipe.seed)
        return cls(recipe, source, splits, build_method(recipe, splits.info, pretrained, taught_by))

    @property
    def told(self) -> DatasetInfo:
        """What the method must be told of the training set to be built again."""
        return told(self.recipe, self.splits.info)

    def configure_history(self, folder: Path) -> None:
        """Give the method's histories the recipe's form and place, and say how much they take.

        Args:
            folder: where files of them would lie.
        """
        options: HistoryOptions = self.recipe.build("history")
        histories = [memory for memory in self.method.memories.values() if isinstance(memory, History)]
        for history in histories:
            history.configure(options, folder)
            _log.info("%s", history.described())
        if not histories and replace(options, storage="auto") != HistoryOptions():
            _log.info("history.top_k and history.dtype have no effect: %s keeps no history", type(self.method).__name__)

    @property
    def channels_last(self) -> bool:
        """The layout asked for, unless the network would get wrong gradients in it."""
        asked: bool = self.recipe.options["trainer"]["channels_last"]
        return asked and trains_in_channels_last(self.method)

    def training_parts(self) -> TrainingParts:
        """Loaders, optimiser and schedule, each tried, so that what cannot work is refused before anything is written.

        Raises: OptionError: if an option is out of range.
        """
        options, recipe = self.recipe.options, self.recipe
        selection_name, selection = self.splits.selection
        augmentation: Augmentation = recipe.build("augmentation")
        loader = training_loader(
            self.splits.train,
            augmentation,
            self.source.mean,
            self.source.std,
            recipe.build("loader"),
            recipe.seed,
            self.method.needs,
            self.channels_last,
            len(self.splits.class_names),
            recipe.build("regularization"),
        )
        # Which of the processes this is, is said once they are connected.
        loader.set_shard(0, World.of(recipe.build("trainer")).size)
        make_optimizer = partial(recipe.build, "optimizer")
        make_schedule = partial(recipe.build, "schedule")
        make_schedule(make_optimizer(self.method.parameter_groups()), options["trainer"]["epochs"], len(loader))
        return TrainingParts(
            training_loader=loader,
            selection_loader=self.evaluation_loader(selection),
            selection_name=selection_name,
            make_optimizer=make_optimizer,
            make_schedule=make_schedule,
            seed=recipe.seed,
        )

    def evaluation_loader(self, split: Split) -> EvaluationBatches[Any]:
        """A split, ready to be evaluated."""
        return evaluation_loader(
            split,
            self.source.mean,
            self.source.std,
            self.recipe.build("loader"),
            self.channels_last,
        )

    def evaluate(self, split: Split, device: torch.device, weights: Path) -> Scores:
        """Scores of every head of the method, which is on `device`.

        Args:
            split: images.
            device: of the method.
            weights: the checkpoint's file from which the method has its weights.
        Raises:
            CheckpointError: if logits are NaN or infinite, so that the weights are worth nothing.
            MemoryExhaustedError: if a batch is too large.
        """
        loader = self.evaluation_loader(split)
        try:
            with memory_to_evaluate(loader.batch_size):
                return evaluate(self.method, loader, device)
        except NonFiniteLossError as error:
            raise CheckpointError(f"{error}: the weights in {weights} are damaged") from error


def run(
    recipe: Recipe, runs: Path, overwrite: bool = False, show_progress: bool = True, trust_imports: bool = False
) -> RunFolder:
    """Train a recipe to its end and leave a finished run folder; continue an unfinished one, keep a finished one.

    If its teacher is a recipe, that one comes first, in the same way. With `trainer.devices` above 1 it trains in as
    many fresh processes; started by torchrun or srun, in those.

    Args:
        recipe: what to train.
        runs: the folder of all runs.
        overwrite: start afresh, whatever is there; what a teacher left is kept nevertheless.
        show_progress: whether there is a progress bar; else there is a line in the log per evaluated epoch.
        trust_imports: let the recipe of a teacher name `package.module:Name`, whose import runs code.
    Raises:
        RunError: if the folder holds another experiment or other data, if another process trains in it, or if what is
            to be overwritten is no run.
        UserError: if data, network, options or the folder's path are not usable.
        RunInterruptedError, NonFiniteLossError, MemoryExhaustedError, CheckpointError, StorageError: as `fit` does.
        WorkerKilledError: if a process that reads images was killed; the last checkpoint is whole.
        ProcessLostError: if one of several processes that train was killed; the last checkpoint is whole.
    """
    folder = RunFolder.of(recipe, runs)
    check_path(folder.path)
    if overwrite:
        folder.check_overwritable()
    else:
        folder.check(recipe)
        if folder.is_finished:
            if is_main_process():
                _keep(folder, recipe, runs, trust_imports)
            return folder
    options: TrainerOptions = recipe.build("trainer")
    world = World.of(options)
    check_hardware(options)
    for teacher in teachers_first(recipe, trust_imports)[-1:]:  # which trains its own first
        teachers_folder = RunFolder.of(teacher, runs)
        if is_main_process() and not teachers_folder.is_finished:
            _check_student(recipe, teacher)
        _log.info("the teacher comes first: %s", teachers_folder.path)
        run(teacher, runs, show_progress=show_progress, trust_imports=trust_imports)
    if world.size > 1 and not world.launched:
        start(_train, world.size, recipe, runs, overwrite, show_progress, trust_imports)
    else:
        with stopping_on_signals():
            _train(recipe, runs, overwrite, show_progress, trust_imports)
    return folder


def _check_student(recipe: Recipe, teacher: Recipe) -> None:
    """Refuse now, before its teacher is trained, what would be refused of a student after it."""
    with memory_for(_BUILDING, _BUILT_SMALLER):
        Experiment.build(recipe, pretrained=False, teacher=partial(untrained_teacher, teacher)).training_parts()


def _keep(folder: RunFolder, recipe: Recipe, runs: Path, trust_imports: bool) -> None:
    """Leave a finished run as it is; where the user says where data or teacher lies, they must be those of the run.

    Raises:
        RunError: if it is other data or another teacher.
        DataError: if the data cannot be read.
        CheckpointError: if the teacher is damaged.
    """
    if recipe.options["data"].get("root") is not None:
        source = build_source(recipe)
        with memory_for("reading the data", "the run is finished; without data.root it is kept unchecked"):
            folder.check_data(recipe, source.load(recipe.seed, whole_images=True))
    saved = SavedRun(folder, recipe)
    if (path := recipe.options.get("teacher", {}).get("path")) is not None:
        with memory_for("loading the teacher", "close other programs, or do it where there is more"):
            teacher = record_at_hand(saved, runs, trust_imports)
        if teacher is None:
            _log.info("the teacher %s is gone; whether %s learnt from it is not checked", path, folder.path)
        else:
            folder.check_teacher(teacher)
    saved.restore_network_file()
    _log.info("%s is finished; --overwrite trains it again", folder.path)


def _train(recipe: Recipe, runs: Path, overwrite: bool, show_progress: bool, trust_imports: bool) -> None:
    """What every process does; the first alone writes."""
    folder = RunFolder.of(recipe, runs)
    options: TrainerOptions = recipe.build("trainer")
    connect(options)
    with memory_for(_BUILDING, _BUILT_SMALLER):
        teacher = partial(load_teacher, recipe, runs, trust_imports)
        experiment = _built(recipe, pretrained=overwrite or not has_checkpoints(folder.checkpoints), teacher=teacher)
        experiment.configure_history(folder.path)
        parts = experiment.training_parts()
    if options.channels_last and not experiment.channels_last:
        _log.info("trained in contiguous layout: in channels-last, CPUs get narrow strided 1x1 convolutions wrong")
        options = replace(options, channels_last=False)
    for finding in training_warnings(experiment.source, experiment.splits, stem_of(recipe, experiment.method.backbone)):
        _log.warning("%s", finding.line())
    with folder.locked() if is_main_process() else nullcontext():
        taught_by = experiment.method.teacher.record if experiment.method.needs.teacher else None
        broadcast_from_main(lambda: folder.prepare(recipe, experiment.splits, experiment.told, overwrite, taught_by))
        for name, record in _described(experiment.splits).items():
            _log.info("%s: %d images (%s)", name, record["images"], record["origin"])
        title = f"{recipe.parts['method']} seed {recipe.seed}"
        try:
            with killed_workers_named(), threads_restored():
                module = MethodModule(experiment.method, parts, options)
                device = fit(module, folder.path, title, show_progress)
                _finish(folder, experiment, module, device)
        except DataError as error:
            raise DataError(
                f"{error}; once it is whole again, the same command continues from the last checkpoint"
            ) from error


def _built(recipe: Recipe, pretrained: bool, teacher: Callable[[Source, Splits], Teacher]) -> Experiment:
    """The parts; where something may have to be fetched first, the first process fetches it for all."""
    build = partial(Experiment.build, recipe, pretrained, teacher)
    if not recipe.options["data"].get("download"):
        return build()
    experiment = build() if is_main_process() else None
    broadcast_from_main(lambda: None)
    return experiment or build()


def _finish(folder: RunFolder, experiment: Experiment, module: MethodModule, device: torch.device) -> None:
    """Score the last and the best epoch, and write scores, network and environment."""
    method, splits = experiment.method.to(device), experiment.splits

    def scored(weights: Path) -> EpochScores:
        epoch = load_weights(method, weights, METHOD)
        scores = {name: experiment.evaluate(split, device, weights) for name, split in splits.by_name.items()}
        return EpochScores(epoch=epoch, scores=scores)

    # All have what the first has: what batch normalisation saw last differs between them.
    last = scored(broadcast_from_main(lambda: weights_file(folder.checkpoints, "last")))
    if is_main_process():
        write_network_file(folder, method.deployed(), splits.class_names, splits.train.input_size, last["epoch"])
    best = scored(broadcast_from_main(lambda: weights_file(folder.checkpoints, "best")))
    if is_main_process():
        _write_records(folder, experiment, module, device, last, best)
    broadcast_from_main(lambda: None)  # none leaves before the run is finished


def _write_records(
    folder: RunFolder,
    experiment: Experiment,
    module: MethodModule,
    device: torch.device,
    last: EpochScores,
    best: EpochScores,
) -> None:
    recipe, method, splits = experiment.recipe, experiment.method, experiment.splits
    selecting, options = module.selection_metric, module.options
    ruled = best["epoch"] > options.best_after_epoch  # else the run was too short for the rule, and all epochs counted
    record = RunScores(
        recipe=recipe.name,
        method=recipe.parts["method"],
        seed=recipe.seed,
        selection=Selection(
            rule=f"best-on-{selecting.split}",
            after_epoch=options.best_after_epoch if ruled else 0,
            metric=selecting.metric,
            higher_is_better=selecting.higher_is_better,
        ),
        last=last,
        best=best,
        own_best=_own_best(folder, selecting, last["scores"][selecting.split]),
        class_names=list(splits.class_names),
        splits=_described(splits),
        seconds=_seconds(folder),
        parameters={
            "deployed": sum(parameter.numel() for parameter in method.deployed().parameters()),
            "training": sum(parameter.numel() for parameter in method.parameters()),
        },
    )
    keep_newest(folder.checkpoints, 1)
    write_json(folder.environment_file, {**environment(device), "processes": World.of(options).size})
    write_json(folder.scores_file, record)


def _described(splits: Splits) -> dict[str, SplitRecord]:
    return {name: SplitRecord(images=len(split), origin=splits.origin(name)) for name, split in splits.by_name.items()}


def _own_best(folder: RunFolder, selecting: SelectionMetric, heads: Iterable[str]) -> dict[str, OwnBest]:
    """The best evaluated epoch of each head for itself, from the run's own log; empty where that was switched off."""
    rows = [row for row in read_epoch_log(folder.metrics_file) if selecting.column in row]
    if not rows:
        return {}
    choose = max if selecting.higher_is_better else min
    best: dict[str, OwnBest] = {}
    for head in heads:
        column = replace(selecting, head=head).column
        row = choose(rows, key=lambda row: row[column])
        best[head] = OwnBest(epoch=int(row["epoch"]), value=row[column])
    return best


def _seconds(folder: RunFolder) -> dict[str, float | None]:
    """Time per epoch, from the run's own log; None where the log was switched off."""
    rows = read_epoch_log(folder.metrics_file)
    if not rows:
        return {"train_epoch_median": None, "train_total": None}
    train = [row["seconds/train"] for row in rows]
    return {"train_epoch_median": statistics.median(train), "train_total": sum(train)}


def evaluate_run(path: Path, split: str, which: str, places: Mapping[str, Any], trust_imports: bool = False) -> Scores:
    """Scores of every head of a run; of one that is not finished, from its newest whole checkpoint, with a warning.

    Args:
        path: the run's folder.
        split: "test", "train" or "validation".
        which: weights of the "last" or the "best" epoch.
        places: `data.root`, if the data has moved; `loader.workers` and the like, if the machine is another.
        trust_imports: let the run's recipe name `package.module:Name`, whose import runs code.
    Raises:
        RunError: if there is no such run, it has no such weights yet, has no such split, or the data has other classes.
        RecipeError: if `places` holds anything else.
        CheckpointError: if the checkpoint is damaged, or its weights give logits that are NaN or infinite.
        DataError, WorkerKilledError: if an image cannot be read, or a process that reads was killed.
        MemoryExhaustedError: if there is too little memory.
    """
    saved = SavedRun.open(path, which, places, trust_imports)
    folder, recipe, class_names = saved.folder, saved.recipe, saved.folder.noted_class_names()
    weights = saved.weights
    saved.restore_network_file()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with memory_for(_BUILDING, "it might fit where there is more memory"):
        source = build_source(recipe)
        splits = source.load(recipe.seed, whole_images=True)  # so that files of the other splits are not decoded
        given = len(splits.class_names)
        if class_names is not None and len(class_names) != given:
            raise RunError(f"the run {path} was trained on {len(class_names)} classes; data.root gives {given}")
        experiment = Experiment(recipe, source, splits, saved.method(splits.info).to(device))
    data = recipe.parts["data"]
    try:
        if not folder.holds_data(splits):
            _log.warning("%s was trained on other data than data=%s gives now, or on data read differently", path, data)
    except RunError as error:
        _log.warning("%s; whether the run was trained on the data that data=%s gives now is not known", error, data)
    images = splits.by_name.get(split)
    if images is None:
        raise RunError(f"the run {path} held out no validation split; data.validation_fraction was 0")
    with killed_workers_named(), threads_restored():
        if device.type == "cpu":
            options = recipe.options
            asked = options["trainer"]["threads"] if "trainer.threads" in places else None
            batch_size = options["loader"]["evaluation_batch_size"]
            backbone = experiment.method.backbone
            torch.set_num_threads(choose_threads(backbone.network, backbone.input_size, batch_size, asked).number)
        return experiment.evaluate(images, device, weights)
