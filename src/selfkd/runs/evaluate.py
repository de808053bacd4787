"""Evaluate a run's heads: on a split of its data, or on other labelled images."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, overload

import torch
from torch.utils.data import Dataset

from selfkd.data.loading.streaming import killed_workers_named
from selfkd.data.sources.base import Source
from selfkd.data.sources.csv_file import CsvFile
from selfkd.data.sources.labelled_images import read_labelled_images
from selfkd.data.splits import Split, Splits
from selfkd.errors import CheckpointError, NonFiniteLossError, OptionError, RunError, StorageError, shown
from selfkd.eval_mode import eval_mode
from selfkd.evaluation.evaluation import (
    Evaluation,
    TemperatureScaling,
    agreement,
    class_accuracies,
    confusion_matrix,
    measure_split,
    scale_temperatures,
)
from selfkd.evaluation.metrics import evaluate as evaluate_method
from selfkd.evaluation.metrics import evaluate_and_collect
from selfkd.evaluation.predictions import Predictions, ShownBatches, collect, predict_batches
from selfkd.evaluation.scores import Scores
from selfkd.json_text import to_json
from selfkd.main_memory import free_main_memory
from selfkd.methods.base import Method
from selfkd.option_checks import one_of
from selfkd.process_group import broadcast_from_main, process_count
from selfkd.runs.build import Experiment, build_evaluation_loader
from selfkd.runs.data_record import class_names_of, trained_on
from selfkd.runs.kept_predictions import keep_predictions, read_predictions, weights_checksum
from selfkd.runs.loading import SavedRun
from selfkd.runs.records import write_text
from selfkd.runs.run_folder import RunFolder
from selfkd.training.checkpoint_content import read_weights
from selfkd.training.memory import memory_for, memory_to_evaluate
from selfkd.training.threads import choose_threads, threads_restored

__all__ = ["LabelledImages", "evaluate", "evaluate_and_predict_split", "evaluate_split", "predict_split"]

LabelledImages = str | os.PathLike[str] | Dataset[Any]
"""A folder with one folder of images for each class, a CSV file of paths and labels, or a torch Dataset."""

_SPLITS = ("test", "train", "validation")
_LOGIT = 8  # bytes of memory: the batches and their whole, or the whole and the bytes of its file, in float32
_FITTED_LOGIT = 24  # bytes more for the head whose temperature is fitted: three tensors in float64
_HALVES, _HALVES_SEED = 2, 0
_READING = ("reading the data and building the network", "use a machine with more memory")

_log = logging.getLogger("selfkd")


def evaluate_split(experiment: Experiment, split: Split, device: torch.device, weights: Path) -> Scores:
    """Measure what each training epoch measures, of every head of an experiment's method, which is on `device`.

    Raises:
        CheckpointError: naming the file of the weights, if a logit is NaN or infinite.
        MemoryExhaustedError: if a batch needs too much memory.
    """
    loader = experiment.evaluation_loader(split)
    with _errors_named(loader.batch_size, weights):
        return evaluate_method(experiment.method, loader, device)


def evaluate_and_predict_split(
    experiment: Experiment, split: Split, device: torch.device, weights: Path
) -> tuple[Scores, Predictions | None]:
    """The scores of `evaluate_split`, and the predictions from which they come, in the order of the split.

    Returns: None instead of the predictions if the main process has too little memory for them; a warning says so.
    Raises: as `evaluate_split`.
    """
    lack = broadcast_from_main(lambda: _lack_of_memory(experiment.method, split, device))
    if lack is not None:
        _log.warning("%s; they are not kept", lack)
        return evaluate_split(experiment, split, device, weights), None
    loader = experiment.evaluation_loader(split)
    with _errors_named(loader.batch_size, weights):
        return evaluate_and_collect(experiment.method, loader, device)


@overload
def evaluate(
    run: str | os.PathLike[str],
    split: str = ...,
    checkpoint: str = ...,
    *,
    data: LabelledImages | None = ...,
    keep_logits: bool = ...,
    temperature: bool = ...,
    overrides: Mapping[str, Any] | None = ...,
    given: Mapping[str, Any] | None = ...,
    trust_imports: bool = ...,
) -> Evaluation: ...
@overload
def evaluate(
    run: str | os.PathLike[str],
    split: str = ...,
    checkpoint: str = ...,
    *,
    data: list[LabelledImages] | tuple[LabelledImages, ...],
    keep_logits: bool = ...,
    temperature: bool = ...,
    overrides: Mapping[str, Any] | None = ...,
    given: Mapping[str, Any] | None = ...,
    trust_imports: bool = ...,
) -> list[Evaluation]: ...
def evaluate(
    run: str | os.PathLike[str],
    split: str = "test",
    checkpoint: str = "last",
    *,
    data: LabelledImages | list[LabelledImages] | tuple[LabelledImages, ...] | None = None,
    keep_logits: bool = False,
    temperature: bool = False,
    overrides: Mapping[str, Any] | None = None,
    given: Mapping[str, Any] | None = None,
    trust_imports: bool = False,
) -> Evaluation | list[Evaluation]:
    """Evaluate every head of a run and their ensemble. docs/evaluation.md explains the metrics.

    An unfinished run is evaluated from its newest undamaged checkpoint, with a warning. The evaluation of a split is
    also written into the run's folder, as `evaluation/<split>-<checkpoint>.json`.

    Args:
        run: the run's folder.
        split: "test", "train" or "validation".
        checkpoint: weights of the "last" or the "best" epoch.
        data: other labelled images instead of a split of the run's data, which is then not read: a folder with one
            folder of images for each class, a CSV file of paths and labels, or a map-style torch Dataset of pairs
            (image, label). Their classes are classes of the run, and not all of them need to be there. A list of
            several gives a list of evaluations.
        keep_logits: keep the logits of all images beside that file, as `evaluation/<split>-<checkpoint>.safetensors`.
        temperature: also fit a temperature for each head and measure with it. It is fitted on the validation split. If
            that is evaluated or there is none, it is fitted on a half of the images and measured on the other.
        overrides: options of the machine, such as `data.root` where the data has moved, or `loader.workers`.
        given: `{"data": DATASET}`, if the run was trained on a Dataset object and one of its splits is evaluated.
        trust_imports: let the run's recipe name `package.module:Name`, whose import runs code.
    Returns: the evaluation; a list if `data` is one.
    Raises:
        OptionError: if an option has another value, options exclude each other, or the logits do not fit in memory.
        RunError: if there is no such run, it has no such weights yet, it has no such split, or the data has another
            number of classes. With `keep_logits` also if the run is being trained, or was trained on other data.
        RecipeError: if `overrides` holds any other option.
        CheckpointError: if the checkpoint is damaged, or its weights give logits that are NaN or infinite.
        DataError: if an image cannot be read, or `data` has other classes.
        StorageError: if the logits cannot be written.
        WorkerKilledError: if a process that reads images was killed.
        MemoryExhaustedError: if there is too little memory.
    """
    if split not in _SPLITS:
        raise OptionError("split", split, f"one of {', '.join(_SPLITS)}; other images are given as data={shown(split)}")
    one_of("checkpoint", checkpoint, ("last", "best"))
    _check_together(split, data, keep_logits)
    saved = _opened(run, checkpoint, overrides, given, trust_imports)
    if keep_logits:
        _refuse_training(saved.folder)
    if data is None:
        evaluators = [_Evaluator.of_split(saved, split)]
    else:
        evaluators = _Evaluator.of_others(saved, data if isinstance(data, list | tuple) else [data])
    with evaluators[0].prepared(overrides or {}):
        evaluations = [each.evaluated(keep_logits, temperature) for each in evaluators]
    if keep_logits:
        _log.info("the logits are kept in %s", saved.folder.predictions_file(split, checkpoint))
    if evaluators[0].is_own_data:
        _write(saved.folder, evaluations[0])
    return evaluations if isinstance(data, list | tuple) else evaluations[0]


def predict_split(
    run: str | os.PathLike[str],
    split: str = "test",
    checkpoint: str = "last",
    *,
    overrides: Mapping[str, Any] | None = None,
    given: Mapping[str, Any] | None = None,
    trust_imports: bool = False,
) -> Predictions:
    """The predictions of every head of a run for a split of its data, without metrics.

    If the run has kept them, they are read, and neither its data nor its weights are loaded. Otherwise they are
    computed and kept, as `evaluate` with `keep_logits` does. If the run's folder cannot be written, a warning says so.

    Args: as for `evaluate`.
    Returns: the predictions in the order of the split, in main memory.
    Raises: as `evaluate` with `keep_logits`, but no StorageError.
    """
    saved = _opened(run, checkpoint, overrides, given, trust_imports)
    kept = _undamaged_predictions(saved.folder, split, checkpoint)
    if kept is not None:
        return kept
    _refuse_training(saved.folder)
    evaluator = _Evaluator.of_split(saved, split)
    with evaluator.prepared(overrides or {}):
        return evaluator.predictions(must_be_kept=False)


class _Place(NamedTuple):
    """Where images of others come from: the kind of the place, and its path or the name of the Dataset."""

    kind: Literal["folder", "CSV file", "Dataset"]
    name: str


@dataclass(frozen=True)
class _Evaluator:
    """Evaluates the method of a run on images.

    Args:
        saved: the run.
        split: name of the run's split; None for `data`.
        data: the kind of the other images and their path or the name of their Dataset; None for a split.
        source: the run's data set, which says how images are normalised.
        method: the run's method with its weights, on `device`.
        epoch: the epoch of the weights, counted from 1.
        class_names: K names in label order.
        images: the images.
        validation: the validation split, if there is one and it is not evaluated itself.
        is_own_data: whether the images belong to the data that the run was trained on.
        device: the device that evaluates.
        weights: checksum of the file of the weights, taken before they were loaded.
    """

    saved: SavedRun
    split: str | None
    data: _Place | None
    source: Source
    method: Method
    epoch: int
    class_names: tuple[str, ...]
    images: Split
    validation: Split | None
    is_own_data: bool
    device: torch.device
    weights: Mapping[str, int]

    @classmethod
    def of_split(cls, saved: SavedRun, split: str) -> _Evaluator:
        """Build the method and list the images of a split, of which those in files are not decoded.

        Raises: UserError, CheckpointError, MemoryExhaustedError: as `evaluate`.
        """
        path, names = saved.folder.path, class_names_of(saved.folder)
        weights, epoch = _weights_of(saved)
        with memory_for(*_READING):
            source: Source = saved.recipe.build("data")
            splits = source.load(saved.recipe.seed, whole_images=True)  # decodes no image of the other splits
            if names is not None and len(names) != len(splits.class_names):
                raise RunError(
                    f"the run {path} was trained on {len(names)} classes; data.root gives {len(splits.class_names)}"
                )
            method = saved.method(splits.info).to(_device())
        is_own_data = _is_own_data(saved, splits)
        if split not in splits.by_name:
            raise RunError(f"the run {path} has no validation split, because data.validation_fraction was 0")
        validation = None if split == "validation" else splits.validation
        images, names = splits.by_name[split], splits.class_names
        return cls(
            saved, split, None, source, method, epoch, names, images, validation, is_own_data, _device(), weights
        )

    @classmethod
    def of_others(cls, saved: SavedRun, places: Sequence[LabelledImages]) -> list[_Evaluator]:
        """Build the method once, and list the images of all places, none of which is decoded.

        Raises: UserError, CheckpointError, MemoryExhaustedError: as `evaluate`.
        """
        if not places:
            raise OptionError("data", places, "one or more folders, CSV files or Datasets")
        weights, epoch = _weights_of(saved)
        with memory_for(*_READING):
            source: Source = saved.recipe.build("data")
            columns = source if isinstance(source, CsvFile) else None
            names, transform, side = saved.class_names, source.image_transform(), saved.input_size[-1]
            images = [read_labelled_images(place, names, transform, side, columns) for place in places]
            method = saved.method().to(_device())
        return [
            cls(saved, None, place, source, method, epoch, names, each, None, False, _device(), weights)
            for place, each in zip(_named(places), images, strict=True)
        ]

    @contextmanager
    def prepared(self, overrides: Mapping[str, Any]) -> Iterator[None]:
        """Set the number of threads for this block, and let its errors name a killed process that reads images."""
        with killed_workers_named(), threads_restored():
            if self.device.type == "cpu":
                torch.set_num_threads(_threads(self.saved, self.method, asked="trainer.threads" in overrides))
            yield

    def evaluated(self, keep_logits: bool, temperature: bool) -> Evaluation:
        """The evaluation."""
        if temperature and self.validation is None and len(self.images) < _HALVES:
            reason = f"it needs {_HALVES} images or more, or a validation split; there is 1 image"
            raise OptionError("temperature", temperature, reason=reason)
        num_classes = len(self.class_names)
        scaling = None
        if keep_logits or temperature:
            if keep_logits:
                predictions = self.predictions(must_be_kept=True, temperature=temperature)
            else:
                self._check_memory("temperature", temperature)
                predictions = self._collected(self.images, "predicting")
            measured = measure_split(predictions.in_batches(), num_classes)
            scaling = self._scaled(predictions) if temperature else None
        else:
            with self._batches(self.images, "predicting") as batches:
                measured = measure_split(predict_batches(self.method, batches, self.device), num_classes, self.device)
        return Evaluation(
            run=str(self.saved.folder.path),
            split=self.split,
            data=None if self.data is None else self.data.name,
            data_kind=None if self.data is None else self.data.kind,
            checkpoint=self.saved.checkpoint,
            epoch=self.epoch,
            class_names=self.class_names,
            images_per_class=tuple(self.images.labels.bincount(minlength=num_classes).tolist()),
            scores=measured.scores,
            ensemble=measured.ensemble,
            class_accuracies={head: class_accuracies(each, num_classes) for head, each in measured.outcomes.items()},
            agreement=agreement(measured.outcomes),
            confusion=confusion_matrix(measured.outcomes["main"], num_classes),
            temperature=scaling,
        )

    def predictions(self, must_be_kept: bool, temperature: bool = False) -> Predictions:
        """The predictions for the split: those that the run has kept, or those of a pass over the images, kept now.

        Args:
            must_be_kept: whether it is an error if they cannot be written; otherwise a warning says so.
            temperature: whether temperatures will be fitted to them.
        Raises:
            OptionError: if they do not fit in memory.
            RunError: if the run was trained on other data.
            StorageError: if they cannot be written.
        """
        folder, which = self.saved.folder, self.saved.checkpoint
        assert self.split is not None
        if not self.is_own_data:
            raise RunError(
                f"the run {folder.path} was trained on other data, so the logits are not kept beside its scores; "
                "give the data of the run, or leave out --keep-logits"
            )
        self._check_memory("keep_logits", temperature)
        kept = _undamaged_predictions(folder, self.split, which)
        if kept is not None:
            return kept
        predictions = self._collected(self.images, "predicting")
        try:
            keep_predictions(folder, self.split, which, predictions, self.weights)
        except StorageError as error:
            if must_be_kept:
                raise
            _log.warning("%s; the logits are not kept", error)
        return predictions

    def _scaled(self, predictions: Predictions) -> TemperatureScaling:
        """The scores before and after temperature scaling."""
        everything = "all images" if self.split is None else f"the {self.split} split"
        if self.validation is not None:
            fitting = self._collected(self.validation, "validation")
            return scale_temperatures(fitting, predictions, "the validation split", everything)
        order = torch.randperm(len(predictions), generator=torch.Generator().manual_seed(_HALVES_SEED))
        first, second = (positions.sort().values for positions in order.tensor_split(_HALVES))
        half = f"half of {everything}, drawn by seed {_HALVES_SEED}"
        return scale_temperatures(predictions.take(second), predictions.take(first), half, "the other half")

    def _collected(self, images: Split, title: str) -> Predictions:
        with self._batches(images, title) as batches:
            return collect(self.method, batches, self.device)

    @contextmanager
    def _batches(self, images: Split, title: str) -> Iterator[ShownBatches]:
        """The batches of images, with a progress bar; an error in the block names the weights or the batch's size."""
        loader = build_evaluation_loader(self.saved.recipe, self.source, self.method, images)
        with (
            ShownBatches.over(loader, len(images), title) as batches,
            _errors_named(loader.batch_size, self.saved.weights),
        ):
            yield batches

    def _check_memory(self, option: str, temperature: bool) -> None:
        """Refuse to collect logits for which there is too little memory.

        Raises: OptionError: with the size.
        """
        more, fitting = 0, 0
        if temperature:
            fitting = len(self.images) // _HALVES if self.validation is None else len(self.validation)
            more = 0 if self.validation is None else fitting
        lack = _lack_of_memory(self.method, self.images, self.device, more, fitting)
        if lack is not None:
            raise OptionError(option, True, reason=f"{lack}; leave the option out, which needs no logits in memory")


def _opened(
    run: str | os.PathLike[str],
    checkpoint: str,
    overrides: Mapping[str, Any] | None,
    given: Mapping[str, Any] | None,
    trust_imports: bool,
) -> SavedRun:
    """The run, with the objects of a Python caller. The arguments are those of `evaluate`."""
    saved = SavedRun.open(run, checkpoint, overrides or {}, trust_imports)
    return replace(saved, recipe=replace(saved.recipe, given=given or {}))


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _weights_of(saved: SavedRun) -> tuple[dict[str, int], int]:
    """The checksum of the file of a run's weights, and their epoch. A run without weights is refused here.

    Raises: RunError, CheckpointError: as `evaluate`.
    """
    weights = weights_checksum(saved.weights)
    _, epoch = read_weights(saved.weights)
    saved.restore_network_file()
    return weights, epoch


def _named(places: Sequence[LabelledImages]) -> list[_Place]:
    """The kinds and names of sets of labelled images. Several Datasets of one class are numbered from 1."""
    classes = [None if isinstance(place, str | os.PathLike) else type(place).__name__ for place in places]
    named: list[_Place] = []
    for at, (place, name) in enumerate(zip(places, classes, strict=True)):
        if isinstance(place, str | os.PathLike):
            named.append(_Place("folder" if Path(place).is_dir() else "CSV file", str(Path(place))))
        else:
            number = f" {classes[: at + 1].count(name)}" if classes.count(name) > 1 else ""
            named.append(_Place("Dataset", f"{name}{number}"))
    return named


def _check_together(split: str, data: object, keep_logits: bool) -> None:
    """Refuse options that exclude each other.

    Raises: OptionError: naming one of them.
    """
    if data is not None and split != "test":
        raise OptionError("split", split, reason="all images of data are evaluated; leave out one of the two")
    if data is not None and keep_logits:
        reason = "a run's folder keeps the logits of its own data alone, not those of data; leave out one of the two"
        raise OptionError("keep_logits", keep_logits, reason=reason)


def _lack_of_memory(method: Method, split: Split, device: torch.device, more: int = 0, fitting: int = 0) -> str | None:
    """Why the logits of a split cannot be collected in main memory; None if they can.

    Args:
        method: on `device`.
        split: the images.
        device: that predicts.
        more: number of images of another split that is collected, too.
        fitting: number of images on which a temperature is fitted.
    """
    image = torch.zeros(1, *split.input_size, device=device)
    with eval_mode(method), torch.no_grad():
        heads = len(method.predict(image))
    images, classes = len(split) + more, method.num_classes
    of_a_process = (_LOGIT * images * heads + _FITTED_LOGIT * fitting) * classes  # each process collects all logits
    needed, free = of_a_process * process_count(), free_main_memory()
    if free is None or needed <= free:
        return None
    return (
        f"the logits of {images} images x {classes} classes x {heads} heads take {needed / 1e9:.3g} GB of memory, and "
        f"{free / 1e9:.3g} GB are free"
    )


@contextmanager
def _errors_named(batch_size: int, weights: Path) -> Iterator[None]:
    """Let errors of an evaluation name the file of the weights, or the size of a batch."""
    try:
        with memory_to_evaluate(batch_size):
            yield
    except NonFiniteLossError as error:
        raise CheckpointError(f"{error}: the weights in {weights} are damaged") from error


def _is_own_data(saved: SavedRun, splits: Splits) -> bool:
    """Whether the run was trained on this data; if not, or if it is not known, the log says so."""
    path, data = saved.folder.path, saved.recipe.parts["data"]
    try:
        if trained_on(saved.folder, splits):
            return True
        _log.warning("%s was trained on other data than data=%s gives now, or on data read differently", path, data)
    except RunError as error:
        _log.warning("%s; so it is not known whether the run was trained on the data that data=%s gives", error, data)
    return False


def _threads(saved: SavedRun, method: Method, asked: bool) -> int:
    """How many threads evaluate on a CPU: those of `trainer.threads`, if the user asked for them now."""
    options, backbone = saved.recipe.options, method.backbone
    threads = options["trainer"]["threads"] if asked else None
    batch_size = options["loader"]["evaluation_batch_size"]
    return choose_threads(backbone.network, backbone.input_size, batch_size, threads).number


def _undamaged_predictions(folder: RunFolder, split: str, which: str) -> Predictions | None:
    """As `read_predictions`; None, too, if the file is damaged, so that it is written again."""
    try:
        return read_predictions(folder, split, which)
    except RunError as error:
        _log.warning("%s", error)
        return None


def _refuse_training(folder: RunFolder) -> None:
    """Refuse to keep logits of weights that a training will soon replace.

    Raises: RunError: if the run is being trained.
    """
    if not folder.is_finished and folder.is_locked:
        raise RunError(
            f"the run {folder.path} is being trained, so its logits are not kept; leave out --keep-logits, or evaluate "
            "it when the training has ended"
        )


def _write(folder: RunFolder, evaluation: Evaluation) -> None:
    """Write the evaluation into the run's folder; a folder that cannot be written is only a warning."""
    assert evaluation.split is not None
    file = folder.evaluation_file(evaluation.split, evaluation.checkpoint)
    text = to_json(evaluation.as_dict(), indent=None)  # without a line for each number of the confusion matrix
    try:
        write_text(file, f"{text}\n")
    except StorageError as error:
        _log.warning("%s; the evaluation is not kept", error)
