"""Labels for image files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import torch
from PIL import UnidentifiedImageError
from torch import Tensor

from selfkd.data.decoding import UNREADABLE, open_image, to_rgb
from selfkd.errors import DataError, OptionError
from selfkd.runs.loading import LoadedRun

__all__ = ["ClassProbability", "Prediction", "predict"]

_BATCH = 64


class ClassProbability(TypedDict):
    """A class name and the network's softmax probability for it."""

    label: str
    probability: float


class Prediction(TypedDict):
    """An image file and its likeliest classes, likeliest first."""

    image: str
    classes: list[ClassProbability]


@torch.no_grad()
def predict(run: LoadedRun, images: Sequence[Path], top: int = 1) -> list[Prediction]:
    """The likeliest classes of image files, in their order.

    Args:
        run: the network, its class names and its transform.
        images: files that PIL can read; every one is looked at before the first is labelled.
        top: how many classes, at least 1 and at most K.
    Raises:
        DataError: if a file is missing or no readable image (the message names all of them).
        OptionError: if `top` is out of range.
    """
    if not 1 <= top <= len(run.class_names):
        raise OptionError("top", top, f"from 1 to {len(run.class_names)}, the number of classes")
    tensors, unreadable = [], []
    for path in images:
        try:
            tensors.append(_read(run, path))
        except UNREADABLE as error:
            unreadable.append(f"{path} ({error})" if not isinstance(error, UnidentifiedImageError) else str(path))
    if unreadable:
        raise DataError(f"not readable as an image: {'; '.join(unreadable)}")
    batches = (torch.stack(tensors[start : start + _BATCH]) for start in range(0, len(tensors), _BATCH))
    probabilities_NK = torch.cat([run.network(batch).softmax(dim=1) for batch in batches])
    ranked = probabilities_NK.topk(top, dim=1)
    return [
        Prediction(
            image=str(path),
            classes=[
                ClassProbability(label=run.class_names[position], probability=probability)
                for probability, position in zip(values, positions, strict=True)
            ],
        )
        for path, values, positions in zip(images, ranked.values.tolist(), ranked.indices.tolist(), strict=True)
    ]


def _read(run: LoadedRun, path: Path) -> Tensor:
    with open_image(path) as image:
        return run.transform(to_rgb(image))
