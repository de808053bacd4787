"""The loader that a split needs, which follows from where its images lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from selfkd.contract import Needs
from selfkd.data.augmentation import Augmentation, WholeImageAugmentation
from selfkd.data.batches import EvaluationBatches, LoaderOptions, TrainingBatches
from selfkd.data.image_files import ImageFiles
from selfkd.data.resident import EvaluationLoader, TrainingLoader
from selfkd.data.source import ImageSet, Split
from selfkd.data.streaming import StreamingEvaluationLoader, StreamingTrainingLoader
from selfkd.errors import OptionError

__all__ = ["evaluation_loader", "training_loader"]


def training_loader(
    data: Split,
    augmentation: Augmentation,
    mean: Sequence[float],
    std: Sequence[float],
    options: LoaderOptions,
    seed: int,
    needs: Needs,
    channels_last: bool,
) -> TrainingBatches[Any]:
    """Training batches of a split.

    Args:
        data: the training images.
        augmentation: how they are changed; tried on a black image.
        mean: per channel, of pixel values in [0, 1].
        std: per channel, of pixel values in [0, 1].
        options: sizes and workers.
        seed: of the run.
        needs: what the method needs of a batch.
        channels_last: memory layout of the batches.
    Raises:
        OptionError: if the augmentation cannot work on these images.
        DataError: if there are fewer than two samples, or the method needs what no loader can give.
    """
    if isinstance(augmentation, WholeImageAugmentation):
        _check_whole_images(augmentation, data)
    black = torch.zeros(1, *data.input_size, dtype=torch.uint8)
    augmentation(black, augmentation.draw(1, torch.Generator()))
    common = (augmentation, mean, std, options.batch_size, seed, needs, channels_last)
    if isinstance(data, ImageFiles):
        return StreamingTrainingLoader(data, *common, workers=options.num_workers)
    assert isinstance(data, ImageSet)
    return TrainingLoader(data, *common)


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
    common = (mean, std, options.evaluation_batch_size, channels_last)
    if isinstance(data, ImageFiles):
        return StreamingEvaluationLoader(data, *common, workers=options.num_workers)
    assert isinstance(data, ImageSet)
    return EvaluationLoader(data, *common)


def _check_whole_images(augmentation: WholeImageAugmentation, data: Split) -> None:
    if isinstance(data, ImageSet):
        raise OptionError(
            "augmentation",
            type(augmentation).__name__,
            "one of images in memory (none or crop_flip): this data set's images are decoded and scaled beforehand",
        )
    side = data.input_size[-1]
    if augmentation.size != side:
        raise OptionError("augmentation.size", augmentation.size, f"{side}, the side of the data set's images")
