"""Train a recipe: begin its run, continue it, or keep it if it is finished."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from selfkd.catalogue import is_own
from selfkd.data.doctor.checking import training_warnings
from selfkd.data.loading.streaming import killed_workers_named
from selfkd.errors import DataError
from selfkd.given_paths import check_path
from selfkd.process_group import broadcast_from_main
from selfkd.recipes.recipe import Recipe, changeable
from selfkd.recipes.teacher_recipes import teachers_first
from selfkd.runs.build import Experiment, TeacherLoader
from selfkd.runs.distributed import train_in_processes
from selfkd.runs.evaluate import predict_split
from selfkd.runs.finish import finish
from selfkd.runs.networks import stem_of
from selfkd.runs.overwrite import check_overwritable
from selfkd.runs.prepare import as_begun, check_finished, check_recipe, prepare
from selfkd.runs.run_folder import RunFolder
from selfkd.runs.teachers import load_teacher, untrained_teacher
from selfkd.runs.training_process import Training
from selfkd.signals import stopping_on_signals
from selfkd.training.checkpoint_names import has_checkpoints
from selfkd.training.fit import check_hardware, connect, fit
from selfkd.training.memory import memory_for
from selfkd.training.module import MethodModule
from selfkd.training.options import TrainerOptions
from selfkd.training.processes import World, is_main_process
from selfkd.training.threads import threads_restored

__all__ = ["check_training", "run", "train_here"]

_BUILDING = "reading the data and building the network"
_BUILD_SMALLER = "a smaller network or smaller images might fit, as a run of its own"

_log = logging.getLogger("selfkd")


def run(
    recipe: Recipe,
    runs: Path,
    overwrite: bool = False,
    show_progress: bool = True,
    trust_imports: bool = False,
    keep_logits: bool = False,
) -> RunFolder:
    """Train a recipe to its end and return the finished run's folder.

    An unfinished run is continued, a finished one is kept. If the recipe's teacher is a recipe, the teacher is trained
    first, in the same way. With `trainer.devices` above 1, as many new processes train; started by torchrun or srun,
    their processes train.

    Args:
        recipe: what to train.
        runs: the folder of all runs.
        overwrite: delete the run that is there and begin anew. A teacher's run is kept all the same.
        show_progress: show a progress bar; otherwise log a line for each evaluated epoch.
        trust_imports: let the recipe of a teacher name `package.module:Name`, whose import runs code.
        keep_logits: keep the logits of all test images after the last epoch, as `selfkd.evaluate` does. They come from
            the evaluation that ends the training; a run that is finished without them predicts once.
    Raises:
        RunError: if the folder holds another experiment or other data, if another process trains in it, or if
            `overwrite` would delete something else than a run.
        UserError: if data, network, options or the folder's path cannot be used.
        RunInterruptedError, NonFiniteLossError, MemoryExhaustedError, CheckpointError, StorageError: as `fit` does.
        WorkerKilledError: if a process that reads images was killed. The last checkpoint is complete.
        ProcessLostError: if one of several training processes was killed. The last checkpoint is complete.
    """
    folder = RunFolder.of(recipe, runs)
    check_path(folder.path)
    if overwrite:
        check_overwritable(folder)
    else:
        recipe = as_begun(folder, recipe)
        check_recipe(folder, recipe)
        if folder.is_finished:
            if is_main_process():
                check_finished(folder, recipe, runs, trust_imports)
                _log.info("%s is finished; --overwrite trains it again", folder.path)
                if keep_logits:
                    machine = changeable(recipe.flat())
                    # `check_recipe` has found the parts of `recipe` in the folder, and they are imported already.
                    predict_split(folder.path, overrides=machine, given=recipe.given, trust_imports=True)
            return folder
    options: TrainerOptions = recipe.build("trainer")
    world = World.of(options)
    if world.size > 1:
        recipe.check_sendable(f"{world.size} processes train")
    check_hardware(options)
    _train_teacher(recipe, runs, show_progress, trust_imports)
    training = Training(recipe, runs, overwrite, show_progress, trust_imports, keep_logits)
    if world.size > 1 and not world.launched:
        train_in_processes(training, world.size)
    else:
        with stopping_on_signals():
            train_here(training)
    return folder


def check_training(
    recipe: Recipe, runs: Path, trust_imports: bool = False, untrained: Recipe | None = None
) -> tuple[str, ...]:
    """Check that a recipe can be trained: read its data and build its parts. Nothing is written or kept in memory.

    Args:
        recipe: what is to be trained.
        runs: the folder of all runs.
        trust_imports: as for `run`.
        untrained: the recipe of the teacher, if that must be trained first.
    Returns: the warnings of the data doctor.
    Raises: UserError, MemoryExhaustedError: as `run`.
    """
    check_hardware(recipe.build("trainer"))
    teacher = (
        partial(load_teacher, recipe, runs, trust_imports)
        if untrained is None
        else partial(untrained_teacher, untrained)
    )
    with memory_for(_BUILDING, _BUILD_SMALLER):
        experiment = Experiment.build(recipe, pretrained=False, teacher=teacher)
        experiment.training_parts()
        if not has_checkpoints(RunFolder.of(recipe, runs).checkpoints):
            experiment.load_starting_weights()
        return _warnings(experiment)


def _warnings(experiment: Experiment) -> tuple[str, ...]:
    stem = stem_of(experiment.recipe, experiment.method.backbone)
    findings = training_warnings(experiment.source, experiment.splits, stem)
    return (*(finding.line() for finding in findings), *_frozen_random_weights(experiment.recipe))


def _frozen_random_weights(recipe: Recipe) -> Iterator[str]:
    """A warning for each network of which a part is frozen that nobody has trained."""
    freeze = recipe.options["trainer"]["freeze"]
    for section in ("backbone", "peer"):
        name = recipe.parts.get(section)
        if not freeze or name is None or is_own(name):  # the user's own network may have trained weights of its own
            continue
        options = recipe.options[section]
        if recipe.file_of_weights(section) is None and not options.get("pretrained"):
            published = f", or {section}.pretrained=true" if "pretrained" in options else ""
            yield (
                f"trainer.freeze={freeze} freezes the random weights that {section}={name} starts from; set "
                f"{section}.weights=FILE{published}, or leave trainer.freeze out"
            )


def train_here(training: Training) -> None:
    """Build, train and finish a run in this process, which may be one of several. The main process writes.

    Args:
        training: what to train. `run` has made its checks and has trained its teacher.
    Raises: SelfKDError: as `run`.
    """
    recipe, runs = training.recipe, training.runs
    folder = RunFolder.of(recipe, runs)
    connect(recipe.build("trainer"))
    with memory_for(_BUILDING, _BUILD_SMALLER):
        begins = training.overwrite or not has_checkpoints(folder.checkpoints)
        teacher = partial(load_teacher, recipe, runs, training.trust_imports)
        experiment = _build(recipe, pretrained=begins, teacher=teacher)
        experiment.configure_history(folder.path)
        parts = experiment.training_parts()
    module = MethodModule(experiment.method, parts, experiment.trainer_options())
    splits, title = experiment.splits, f"{recipe.parts['method']} seed {recipe.seed}"
    for warning in _warnings(experiment):
        _log.warning("%s", warning)
    with folder.locked() if is_main_process() else nullcontext():
        broadcast_from_main(lambda: prepare(folder, experiment, training.overwrite))
        for name, split in splits.by_name.items():
            _log.info("%s: %d images (%s)", name, len(split), splits.origin(name))
        try:
            with killed_workers_named(), threads_restored():
                device = fit(module, folder.path, title, training.show_progress)
                finish(folder, experiment, module, device, training.keep_logits)
        except DataError as error:
            raise DataError(
                f"{error}; once it is repaired or replaced, the same command continues from the last checkpoint; "
                "'selfkd check' lists all damaged images"
            ) from error


def _build(recipe: Recipe, pretrained: bool, teacher: TeacherLoader) -> Experiment:
    """Build the parts. If data may have to be downloaded, the main process does it for all."""
    build = partial(Experiment.build, recipe, pretrained, teacher)
    if not recipe.options["data"].get("download"):
        return build()
    experiment = build() if is_main_process() else None
    broadcast_from_main(lambda: None)  # the others wait here for the download
    return experiment or build()


def _train_teacher(recipe: Recipe, runs: Path, show_progress: bool, trust_imports: bool) -> None:
    """Train the teacher of a recipe, if it is a recipe itself. First check that the student can be trained then."""
    for teacher in teachers_first(recipe, trust_imports)[-1:]:  # `run` trains the teacher's own teacher
        folder = RunFolder.of(teacher, runs)
        if is_main_process() and not folder.is_finished:
            check_training(recipe, runs, trust_imports, untrained=teacher)
        _log.info("the teacher is trained first: %s", folder.path)
        run(teacher, runs, show_progress=show_progress, trust_imports=trust_imports)
