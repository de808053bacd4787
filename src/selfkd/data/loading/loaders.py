"""Chooses the loader for a split: by where its images are, and by how they are augmented."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch

from selfkd.contract import Needs
from selfkd.data.augmentation.augmentations import Augmentation
from selfkd.data.augmentation.regularization import Regularization
from selfkd.data.loading.batches import EvaluationBatches, LoaderOptions, TrainingBatches
from selfkd.data.loading.resident import EvaluationLoader, TrainingLoader
from selfkd.data.loading.streaming import StreamingEvaluationLoader, StreamingTrainingLoader
from selfkd.data.splits import ImageSet, IndexedImages, Split
from selfkd.errors import OptionError

__all__ = ["evaluation_loader", "training_loader"]

_log = logging.getLogger("selfkd")
_NOTHING_MORE = Regularization()


def training_loader(
    data: Split,
    augmentation: Augmentation,
    mean: Sequence[float],
    std: Sequence[float],
    options: LoaderOptions,
    seed: int,
    needs: Needs,
    channels_last: bool,
    num_classes: int,
    regularization: Regularization = _NOTHING_MORE,
) -> TrainingBatches[Any]:
    """Training batches of a split, from the resident loader if images are in memory and augmented in whole batches.

    Args:
        data: the training images.
        augmentation: the change of each image; it is tried on a black image.
        mean: per channel, of pixel values in [0, 1].
        std: per channel, of pixel values in [0, 1].
        options: sizes and workers.
        seed: the run's seed.
        needs: what the method needs in a batch.
        channels_last: memory layout of the batches.
        num_classes: K, the length of soft labels.
        regularization: what follows the augmentation.
    Raises:
        OptionError: if the augmentation does not fit the images, or the method cannot learn from mixed images.
        DataError: if there are fewer than two samples.
    """
    assert isinstance(data, ImageSet | IndexedImages)
    _check_whole_images(augmentation, data)
    augmentation = regularization.applied_to(augmentation)
    black = torch.zeros(1, *data.input_size, dtype=torch.uint8)
    augmentation(black, augmentation.draw(1, torch.Generator()))
    side = data.input_size[-1]
    if regularization.cutout > side:
        raise OptionError("regularization.cutout", regularization.cutout, f"at most {side}, the side of the images")
    mixing = regularization.mixing(num_classes)
    if mixing is not None:
        _check_mixing(regularization, needs)
    if options.batch_size > len(data):
        _log.warning(
            "loader.batch_size=%d is larger than the training set of %d images: every epoch is a single step",
            options.batch_size,
            len(data),
        )
    streamed = isinstance(data, IndexedImages) or augmentation.image_by_image
    loader: type[TrainingBatches[Any]] = StreamingTrainingLoader if streamed else TrainingLoader
    return loader(
        data,
        augmentation,
        mean,
        std,
        options.batch_size,
        seed,
        needs,
        channels_last,
        cutout=regularization.hole(),
        mixing=mixing,
        workers=options.num_workers,
        device_share=options.device_share,
    )


def evaluation_loader(
    data: Split, mean: Sequence[float], std: Sequence[float], options: LoaderOptions, channels_last: bool
) -> EvaluationBatches[Any]:
    """Evaluation batches of a split.

    Args:
        data: the images.
        mean: per channel, of pixel values in [0, 1].
        std: per channel, of pixel values in [0, 1].
        options: sizes and workers.
        channels_last: memory layout of the batches.
    """
    streamed = isinstance(data, IndexedImages)
    loader: type[EvaluationBatches[Any]] = StreamingEvaluationLoader if streamed else EvaluationLoader
    return loader(
        data,
        mean,
        std,
        options.evaluation_batch_size,
        channels_last,
        workers=options.num_workers,
        device_share=options.device_share,
    )


def _check_whole_images(augmentation: Augmentation, data: Split) -> None:
    if augmentation.side_of_whole_images is None:
        return
    if isinstance(data, ImageSet):
        raise OptionError(
            "augmentation",
            type(augmentation).__name__,
            reason="the images of this data set are decoded and scaled before training; choose none or crop_flip",
        )
    side = data.input_size[-1]
    if augmentation.side_of_whole_images != side:
        raise OptionError(
            "augmentation.size", augmentation.side_of_whole_images, f"{side}, the side of the data set's images"
        )


def _check_mixing(regularization: Regularization, needs: Needs) -> None:
    option = "mixup" if regularization.mixup else "cutmix"
    needed = {
        "the sample index: it would remember the prediction for a mixture as that of one sample": needs.sample_index,
        "several views of each image: each view would be mixed differently": needs.views > 1,
        "other samples of the same class: a mixture belongs to no class": needs.same_class > 0,
    }
    for need, is_needed in needed.items():
        if is_needed:
            value = getattr(regularization, option)
            raise OptionError(f"regularization.{option}", value, f"0 with a method that needs {need}")
