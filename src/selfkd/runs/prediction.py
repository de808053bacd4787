"""Label image files. Only one batch of them is in memory, so that there may be any number."""

from __future__ import annotations

import glob
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypedDict

import torch
from PIL import UnidentifiedImageError
from torch import Tensor

from selfkd.data.reading.class_folders import images_below
from selfkd.data.reading.decoding import UNREADABLE, open_image, to_rgb
from selfkd.errors import CheckpointError, DataError
from selfkd.option_checks import at_least
from selfkd.runs.loading import LoadedRun
from selfkd.training.memory import memory_for
from selfkd.training.threads import choose_threads, threads_restored

__all__ = ["ClassProbability", "Prediction", "images_of", "predict"]

_LARGEST_BATCH = 65_536


class ClassProbability(TypedDict):
    """A class name and the network's softmax probability for it."""

    label: str
    probability: float


class Prediction(TypedDict):
    """An image file and its most probable classes, the most probable first."""

    image: str
    classes: list[ClassProbability]


def _raise(problem: DataError) -> None:
    raise problem


def images_of(named: Iterable[str], report: Callable[[DataError], None] = _raise) -> Iterator[Path]:
    """List the image files that a user names, in the order given. Those of a folder or a pattern are sorted.

    Args:
        named: files with any suffix; folders, which stand for every image file below them; patterns such as
            `photos/**/*.jpg` that the shell has not replaced.
        report: is called with an error for each name without an image. If it returns, the listing goes on. By default
            it raises the error.
    Raises: DataError: by default, if a pattern matches no file, or a folder holds no image or cannot be listed.
    """
    for name in named:
        yield from _images_of(name, report)


def _images_of(name: str, report: Callable[[DataError], None]) -> Iterator[Path]:
    is_silent = True  # neither an image nor an error has come

    def note(problem: DataError) -> None:
        nonlocal is_silent
        is_silent = False
        report(problem)

    # os.path raises no error for a name that is too long.
    if not os.path.exists(name) and glob.has_magic(name):  # noqa: PTH110
        # A pattern may match a folder and also the files in it.
        found = sorted(glob.iglob(name, recursive=True))  # noqa: PTH207  # Path.glob takes no absolute pattern
        files: Iterable[str] = dict.fromkeys(file for place in found for file in _images_at(place, note))
        problem = "no file matches this pattern"
    else:
        files = _images_at(name, note)
        problem = "a folder without an image file"
    for file in files:
        is_silent = False
        yield Path(file)
    if is_silent:
        report(DataError(f"{name}: {problem}"))


def _images_at(place: str, report: Callable[[DataError], None]) -> Iterator[str]:
    """The image files below a folder, or the file itself."""
    if os.path.isdir(place):  # noqa: PTH112  # as above
        yield from images_below(Path(place), report)
    else:
        yield place


def predict(
    run: LoadedRun,
    images: Iterable[Path],
    top: int = 1,
    batch_size: int = 64,
    report: Callable[[DataError], None] = _raise,
) -> Iterator[Prediction]:
    """Label image files, one after the other, in their order.

    Args:
        run: the network, its class names and its transform.
        images: files that PIL can read.
        top: number of classes for each image, from 1 to K.
        batch_size: number of images that are read and labelled together. It changes no label.
        report: is called with an error for each image that cannot be read. If it returns, the labelling goes on. By
            default it raises the error.
    Raises:
        OptionError: at the call, if `top` or `batch_size` is out of range.
        DataError: by default, if a file is missing or not a readable image.
        MemoryExhaustedError: if a batch needs more memory than there is.
        CheckpointError: if a probability is NaN or infinite, so that the weights are damaged.
    """
    at_least("top", top, 1, len(run.class_names))
    at_least("batch_size", batch_size, 1, _LARGEST_BATCH)
    return _predictions(run, iter(images), top, batch_size, report)


def _predictions(
    run: LoadedRun, images: Iterator[Path], top: int, batch_size: int, report: Callable[[DataError], None]
) -> Iterator[Prediction]:
    threads = choose_threads(run.network, run.input_size, batch_size, settable=False).number
    with ThreadPoolExecutor() as pool:  # PIL decodes outside the interpreter lock
        while paths := list(islice(images, batch_size)):
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", module=r"PIL\.")  # name no file, and it is decoded
                images_or_problems = list(pool.map(partial(_read, run), paths))
            read: list[tuple[Path, Tensor]] = []
            for path, image in zip(paths, images_or_problems, strict=True):
                if isinstance(image, DataError):
                    report(image)
                else:
                    read.append((path, image))
            if not read:
                continue
            # The yield is outside, because the caller keeps its own number of threads.
            with (
                memory_for(f"labelling {len(read)} images together", "a smaller --batch-size might fit"),
                threads_restored(),
            ):
                torch.set_num_threads(threads)
                ranked = _ranked(run, torch.stack([image for _, image in read]), top)
            for (path, _), classes in zip(read, ranked, strict=True):
                if not all(math.isfinite(each["probability"]) for each in classes):
                    raise CheckpointError(f"the network gives no probabilities for {path}: its weights are damaged")
                yield Prediction(image=str(path), classes=classes)


@torch.inference_mode()
def _ranked(run: LoadedRun, images_BCHW: Tensor, top: int) -> list[list[ClassProbability]]:
    ranked = run.network(images_BCHW).softmax(dim=1).topk(top, dim=1)
    return [
        [
            ClassProbability(label=run.class_names[position], probability=probability)
            for probability, position in zip(values, positions, strict=True)
        ]
        for values, positions in zip(ranked.values.tolist(), ranked.indices.tolist(), strict=True)
    ]


def _read(run: LoadedRun, path: Path) -> Tensor | DataError:
    try:
        with open_image(path) as image:
            return run.transform(to_rgb(image))
    except UnidentifiedImageError:
        return DataError(f"{path}: not readable as an image")
    except UNREADABLE as error:
        return DataError(f"{path}: not readable as an image: {error}")
    except MemoryError:
        return DataError(f"{path}: the image is too large for this machine's memory")
