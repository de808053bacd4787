"""Labels for image files, as many as there are: only one batch of them is in memory."""

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
    """An image file and its likeliest classes, likeliest first."""

    image: str
    classes: list[ClassProbability]


def _refused(problem: DataError) -> None:
    raise problem


def images_of(named: Iterable[str], report: Callable[[DataError], None] = _refused) -> Iterator[Path]:
    """The image files that a user names, in the order given, those of a folder or of a pattern sorted.

    Args:
        named: files, whatever they are called; folders, for every image file below them; patterns such as
            `photos/**/*.jpg`, where a shell has not replaced them.
        report: gets what names no image, and may let the listing go on; by default it ends.
    Raises: DataError: by default, if there is no such file, or a folder without images, or one that cannot be listed.
    """
    for name in named:
        yield from _images_of(name, report)


def _images_of(name: str, report: Callable[[DataError], None]) -> Iterator[Path]:
    nothing_came = True

    def say(problem: DataError) -> None:
        nonlocal nothing_came
        nothing_came = False
        report(problem)

    # os.path asks without an error where a name is too long to exist.
    if not os.path.exists(name) and glob.has_magic(name):  # noqa: PTH110
        # A pattern may name a folder and also what lies in it.
        found = sorted(glob.iglob(name, recursive=True))  # noqa: PTH207
        files: Iterable[str] = dict.fromkeys(file for place in found for file in _images_at(place, say))
        problem = "no file matches this pattern"
    else:
        files = _images_at(name, say)
        problem = "a folder without an image file"
    for file in files:
        nothing_came = False
        yield Path(file)
    if nothing_came:
        report(DataError(f"{name}: {problem}"))


def _images_at(place: str, report: Callable[[DataError], None]) -> Iterator[str]:
    """The image files below a folder, or the file itself, whatever it is called."""
    if os.path.isdir(place):  # noqa: PTH112
        yield from images_below(Path(place), report)
    else:
        yield place


def predict(
    run: LoadedRun,
    images: Iterable[Path],
    top: int = 1,
    batch_size: int = 64,
    report: Callable[[DataError], None] = _refused,
) -> Iterator[Prediction]:
    """The likeliest classes of image files, one after the other, in their order.

    Args:
        run: the network, its class names and its transform.
        images: files that PIL can read.
        top: how many classes, at least 1 and at most K.
        batch_size: images that are read and labelled together, which changes no label.
        report: gets what cannot be read, and may let the labelling go on with the next; by default it ends.
    Raises:
        OptionError: at once, if `top` or `batch_size` is out of range.
        DataError: by default, if a file is missing or no readable image.
        MemoryExhaustedError: if a batch needs more memory than there is.
        CheckpointError: if the network gives something else than probabilities, so that its weights are damaged.
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
                warnings.filterwarnings("ignore", module=r"PIL\.")  # remarks, without a name, on files that it decodes
                images_or_problems = list(pool.map(partial(_read, run), paths))
            read: list[tuple[Path, Tensor]] = []
            for path, image in zip(paths, images_or_problems, strict=True):
                if isinstance(image, DataError):
                    report(image)
                else:
                    read.append((path, image))
            if not read:
                continue
            # Not around the yield, where the number of threads would reach the caller.
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
