"""A run as a Python object: what it trained, how well, and its network."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, overload

from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

from selfkd.argument_names import naming_arguments
from selfkd.errors import DataError, RunError
from selfkd.evaluation.evaluation import Evaluation
from selfkd.recipes.given_data import with_dataset
from selfkd.recipes.keyword_overrides import flat_overrides
from selfkd.recipes.recipe import Recipe
from selfkd.runs.evaluate import LabelledImages, evaluate
from selfkd.runs.export import export_run
from selfkd.runs.loading import MORE_MEMORY, SavedRun
from selfkd.runs.prediction import GivenImage, Prediction, images_of, is_one_image, predict, raise_problem
from selfkd.runs.records import RunScores
from selfkd.terminal import log_shown
from selfkd.training.epoch_log import read_epoch_log
from selfkd.training.memory import memory_for

__all__ = ["Run"]

_EPOCH = "epoch"

_log = logging.getLogger("selfkd")


@dataclass(frozen=True, repr=False)
class Run:
    """A run, finished or not. Its files are read when an attribute first needs them.

    `selfkd.train` and `selfkd.load` give one.

    Args:
        saved: the run's folder and recipe. The recipe may name the user's own code, which is then trusted.
    """

    saved: SavedRun

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        checkpoint: str = "last",
        *,
        data: Dataset[Any] | Mapping[str, Dataset[Any]] | None = None,
        trust_imports: bool = False,
    ) -> Run:
        """Open a run, of which only the recipe is read now.

        Args:
            path: the run's folder.
            checkpoint: `network` and `predict` use the weights of the "last" or the "best" epoch.
            data: the Dataset object that the run was trained on, or the mapping of several; `evaluate` needs it again.
            trust_imports: let the run's recipe name `package.module:Name`, whose import runs code.
        Raises:
            RunError: if there is no such run.
            RecipeError: if its recipe is damaged, or names code of the user's own and that is not trusted. Also if
                `data` is no Dataset object, or the run was trained on something else.
        """
        saved = SavedRun.open(path, checkpoint, trust_imports=trust_imports)
        return cls(replace(saved, recipe=with_dataset(saved.recipe, data)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.saved.folder.path

    @property
    def recipe(self) -> Recipe:
        """The recipe that is trained; every option has its value."""
        return self.saved.recipe

    @property
    def is_finished(self) -> bool:
        """Whether all epochs are trained and scored."""
        return self.saved.folder.is_finished

    @property
    def scores(self) -> RunScores:
        """The content of scores.json: `run.scores["last"]["scores"]["test"]["main"]["top1"]["value"]` is in percent.

        Raises: RunError: if the run is not finished, or the file is damaged.
        """
        if not self.is_finished:
            raise RunError(f"the run {self.path} has no scores yet, because it is not finished; train it to its end")
        return self.saved.folder.scores()

    @property
    def metrics(self) -> Any:
        """The content of metrics.csv, one row for each epoch: a pandas DataFrame.

        Without pandas it is a dict of columns, `{"epoch": [1, 2], "train/loss": [2.3, 1.9], ...}`. A value that an
        epoch did not log is NaN. A run that has logged no epoch has no rows.

        Raises: CheckpointError: if the file is damaged.
        """
        rows = read_epoch_log(self.saved.folder.metrics_file)
        names = dict.fromkeys(name for row in rows for name in row)
        columns: dict[str, list[float]] = {name: [row.get(name, float("nan")) for row in rows] for name in names}
        if _EPOCH in columns:
            columns[_EPOCH] = [int(epoch) for epoch in columns[_EPOCH]]
        try:
            import pandas as pd
        except ImportError:  # it is not a dependency
            return columns
        return pd.DataFrame(columns)

    @cached_property
    def network(self) -> nn.Module:
        """The plain network in eval mode, with the weights of the last trained epoch, or of the best if asked for.

        Raises: RunError, CheckpointError, MemoryExhaustedError: as `selfkd.load` does.
        """
        with memory_for("loading the network", MORE_MEMORY):
            network, _ = self.saved.network()
        return network.eval()

    @property
    def class_names(self) -> tuple[str, ...]:
        """K names in label order."""
        return self.saved.class_names

    @property
    def transform(self) -> Callable[[Image.Image], Tensor]:
        """Turns a PIL image into the normalised float32 `[C, H, W]` tensor that the network takes in a batch."""
        return self.saved.transform

    @property
    def input_size(self) -> tuple[int, int, int]:
        """(channels, height, width) of that tensor."""
        return self.saved.input_size

    @overload
    def predict(self, images: Image.Image, top: int = 1, *, batch_size: int = 64) -> Prediction: ...

    @overload
    def predict(  # type: ignore[overload-overlap]  # a text and a tensor can be iterated, too
        self, images: str | os.PathLike[str] | Tensor, top: int = 1, *, batch_size: int = 64
    ) -> Prediction | list[Prediction]: ...

    @overload
    def predict(self, images: Iterable[GivenImage], top: int = 1, *, batch_size: int = 64) -> list[Prediction]: ...

    @log_shown()
    def predict(
        self, images: GivenImage | Iterable[GivenImage], top: int = 1, *, batch_size: int = 64
    ) -> Prediction | list[Prediction]:
        """Label one image or several: `run.predict("photo.jpg").label`.

        Args:
            images: the path of an image file; a folder, which stands for every image file below it; a pattern such as
                "photos/**/*.jpg"; a PIL image; a tensor; or a list of these. A uint8 tensor `[1 or 3, H, W]` holds
                pixels of an image of any size; a floating tensor is what `transform` gives. `[B, C, H, W]` is a batch.
            top: number of classes for each image, from 1 to K.
            batch_size: number of images that are read and labelled together. It changes no label.
        Returns: a prediction for one file, one PIL image or one tensor without a batch; otherwise a list of
            predictions in the order given, in which the files of a folder or a pattern are sorted.
        Raises:
            OptionError: if `top` or `batch_size` is out of range.
            UserError: if something else than images is given.
            DataError: if an image cannot be read, a folder holds no image, or a pattern matches no file.
            MemoryExhaustedError: if a batch needs more memory than there is.
            CheckpointError: if the weights are damaged.
        """
        predictions = list(self.predict_each(images, top, batch_size=batch_size))
        return predictions[0] if is_one_image(images) else predictions

    def predict_each(
        self,
        images: GivenImage | Iterable[GivenImage],
        top: int = 1,
        *,
        batch_size: int = 64,
        report: Callable[[DataError], None] = raise_problem,
    ) -> Iterator[Prediction]:
        """Label any number of images, one after the other. Only one batch of them is in memory.

        Args:
            images, top, batch_size: as for `predict`.
            report: is called with an error for each image that cannot be read, an `UnreadableImageError`, and for each
                folder or pattern without an image. If it returns, the labelling goes on. By default the error is
                raised.
        Raises: as `predict`.
        """
        return predict(self, images_of(images, report), top, batch_size, report)

    @overload
    def evaluate(
        self,
        split: str = ...,
        checkpoint: str = ...,
        *,
        data: LabelledImages | None = ...,
        keep_logits: bool = ...,
        temperature: bool = ...,
        **overrides: Any,
    ) -> Evaluation: ...

    @overload
    def evaluate(
        self,
        split: str = ...,
        checkpoint: str = ...,
        *,
        data: list[LabelledImages] | tuple[LabelledImages, ...],
        keep_logits: bool = ...,
        temperature: bool = ...,
        **overrides: Any,
    ) -> list[Evaluation]: ...

    @naming_arguments
    @log_shown()
    def evaluate(
        self,
        split: str = "test",
        checkpoint: str = "last",
        *,
        data: LabelledImages | list[LabelledImages] | tuple[LabelledImages, ...] | None = None,
        keep_logits: bool = False,
        temperature: bool = False,
        **overrides: Any,
    ) -> Evaluation | list[Evaluation]:
        """Evaluate every head of the run and their ensemble. The arguments are those of `selfkd.evaluate`.

        A run on a Dataset object evaluates the splits of that object. The `Run` that `selfkd.train` gives has the
        object. `selfkd.load(folder, data=DATASET)` gives it to a `Run` again.

        Returns: the evaluation; a list if `data` is one.
        Raises: as `selfkd.evaluate`.
        """
        return evaluate(
            self.path,
            split,
            checkpoint,
            data=data,
            keep_logits=keep_logits,
            temperature=temperature,
            overrides=flat_overrides(overrides),
            given=self.recipe.given,
            trust_imports=True,
        )

    @log_shown()
    def export(
        self,
        output: str | os.PathLike[str] | None = None,
        *,
        format: str = "safetensors",  # noqa: A002  # the command's name for it
        checkpoint: str = "last",
        overwrite: bool = False,
    ) -> Path:
        """Write the plain network to a file, load the file again, and check that it gives the same logits.

        The log says how much the logits differ.

        Args:
            output: the file; None for `export/<checkpoint>.safetensors` in the run's folder, where an older export is
                replaced.
            format: format of the file; "safetensors".
            checkpoint: weights of the "last" or the "best" epoch.
            overwrite: replace `output` if it exists.
        Returns: the file.
        Raises:
            RunError: if the run has no such weights yet.
            OptionError: if an option has another value, or `output` exists and is not to be replaced.
            StorageError: if the file cannot be written.
            CheckpointError: if the checkpoint is damaged.
            ParityError: if the logits differ. No file is written then.
        """
        file, difference = export_run(
            self.path, checkpoint, output, trust_imports=True, overwrite=overwrite, format=format
        )
        _log.info("%s: its logits equal the trained network's; the largest difference is %.1e", file, difference)
        return file
