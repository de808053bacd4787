"""Label images. Only one batch of them is in memory, so that there may be any number."""

from __future__ import annotations

import glob
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as transforms

from selfkd.data.reading.class_folders import images_below
from selfkd.data.reading.decoding import UNREADABLE, open_image, to_rgb
from selfkd.errors import CheckpointError, DataError, UnreadableImageError, UserError
from selfkd.given_paths import is_folder, is_there
from selfkd.option_checks import at_least
from selfkd.training.memory import memory_for
from selfkd.training.threads import choose_threads, threads_restored

__all__ = [
    "ClassProbability",
    "Classifier",
    "GivenImage",
    "Prediction",
    "images_of",
    "is_one_image",
    "predict",
    "raise_problem",
]

_LARGEST_BATCH = 65_536
_CHANNELS = (1, 3)

GivenImage = str | os.PathLike[str] | Image.Image | Tensor
"""What a user gives for images: a file, a folder or a pattern; a PIL image; a tensor of one or of several images."""
OneImage = Path | Image.Image | Tensor


@dataclass(frozen=True)
class ClassProbability:
    """A class name and the network's softmax probability for it, in [0, 1]."""

    label: str
    probability: float


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of an image.

    Args:
        image: path of the file; None for an image that was given as an object.
        classes: the most probable first.
    """

    image: str | None
    classes: tuple[ClassProbability, ...]

    @property
    def label(self) -> str:
        """Name of the most probable class."""
        return self.classes[0].label

    @property
    def probability(self) -> float:
        """Probability of the most probable class."""
        return self.classes[0].probability

    def to_json(self) -> dict[str, Any]:
        """The record as plain values."""
        return {**asdict(self), "classes": [asdict(each) for each in self.classes]}


class Classifier(Protocol):
    """A trained network, what turns an image into its input, and the names of its classes."""

    @property
    def network(self) -> nn.Module:
        """Gives logits `[B, K]` for images `[B, C, H, W]`; in eval mode."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """K names in label order."""

    @property
    def transform(self) -> Callable[[Image.Image], Tensor]:
        """Turns a PIL image into the `[C, H, W]` tensor that the network takes in a batch."""

    @property
    def input_size(self) -> tuple[int, int, int]:
        """(channels, height, width) of that tensor."""


def raise_problem(problem: DataError) -> None:
    """What is done with an image that cannot be read unless the caller says otherwise."""
    raise problem


def is_one_image(given: object) -> bool:
    """Whether this stands for exactly one image: a PIL image, a tensor without a batch, or the path of a file."""
    if isinstance(given, Tensor):
        return given.ndim == 3
    if isinstance(given, str | os.PathLike):
        name = _expanded(given)
        return not (is_folder(Path(name)) or _is_pattern(name))
    return isinstance(given, Image.Image)


def images_of(
    given: GivenImage | Iterable[GivenImage], report: Callable[[DataError], None] = raise_problem
) -> Iterator[OneImage]:
    """List the images that a user gives, in the order given. Those of a folder or a pattern are sorted.

    Args:
        given: files with any suffix; folders, which stand for every image file below them; patterns such as
            `photos/**/*.jpg` that the shell has not replaced; PIL images; tensors `[C, H, W]` or `[B, C, H, W]`. One
            of these, or any number.
        report: is called with an error for each path without an image. If it returns, the listing goes on. By default
            it raises the error.
    Raises:
        DataError: by default, if a pattern matches no file, or a folder holds no image or cannot be listed.
        UserError: if something else is given.
    """
    if isinstance(given, str | os.PathLike | Image.Image | Tensor):  # a text and a tensor can be iterated, too
        given = [given]
    if not isinstance(given, Iterable):
        raise _no_image(given)
    for each in given:
        if isinstance(each, str | os.PathLike):
            yield from _files_of(_expanded(each), report)
        elif isinstance(each, Image.Image):
            yield each
        elif isinstance(each, Tensor) and each.ndim in (3, 4):
            yield from each if each.ndim == 4 else [each]
        else:
            raise _no_image(each)


def _no_image(given: object) -> UserError:
    kind = f"a tensor {list(given.shape)}" if isinstance(given, Tensor) else f"an object of type {type(given).__name__}"
    return UserError(
        f"{kind} is not an image; give paths, PIL images, or tensors [C, H, W] or [B, C, H, W] "
        "(PIL.Image.fromarray makes an image of an array)"
    )


def _expanded(path: str | os.PathLike[str]) -> str:
    name = os.fspath(path)
    return os.path.expanduser(name) if name.startswith("~") else name  # noqa: PTH111  # a pattern is no path


def _is_pattern(name: str) -> bool:
    path = Path(name)
    return glob.has_magic(name) and not (is_there(path) or is_folder(path))


def _files_of(name: str, report: Callable[[DataError], None]) -> Iterator[Path]:
    is_silent = True  # neither an image nor an error has come

    def note(problem: DataError) -> None:
        nonlocal is_silent
        is_silent = False
        report(problem)

    if _is_pattern(name):
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
    if is_folder(Path(place)):
        yield from images_below(Path(place), report)
    else:
        yield place


def predict(
    classifier: Classifier,
    images: Iterable[OneImage],
    top: int = 1,
    batch_size: int = 64,
    report: Callable[[DataError], None] = raise_problem,
) -> Iterator[Prediction]:
    """Label images, one after the other, in their order.

    Args:
        classifier: the network, its class names and its transform.
        images: files that PIL can read; PIL images; uint8 tensors `[1 or 3, H, W]` of any size; floating tensors as
            `classifier.transform` gives them.
        top: number of classes for each image, from 1 to K.
        batch_size: number of images that are read and labelled together. It changes no label.
        report: is called with an error for each image that cannot be read. If it returns, the labelling goes on. By
            default it raises the error.
    Raises:
        OptionError: at the call, if `top` or `batch_size` is out of range.
        UserError: if a tensor has another form.
        UnreadableImageError: by default, if a file is missing or not a readable image.
        MemoryExhaustedError: if a batch needs more memory than there is.
        CheckpointError: if a probability is NaN or infinite, so that the weights are damaged.
    """
    at_least("top", top, 1, len(classifier.class_names))
    at_least("batch_size", batch_size, 1, _LARGEST_BATCH)
    return _predictions(classifier, iter(images), top, batch_size, report)


def _predictions(
    classifier: Classifier,
    images: Iterator[OneImage],
    top: int,
    batch_size: int,
    report: Callable[[DataError], None],
) -> Iterator[Prediction]:
    threads = choose_threads(classifier.network, classifier.input_size, batch_size, settable=False).number
    with ThreadPoolExecutor() as pool:  # PIL decodes outside the interpreter lock
        while batch := list(islice(images, batch_size)):
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", module=r"PIL\.")  # name no file, and it is decoded
                inputs_or_problems = list(pool.map(partial(_input_of, classifier), batch))
            read: list[tuple[str | None, Tensor]] = []
            for image, result in zip(batch, inputs_or_problems, strict=True):
                if isinstance(result, DataError):
                    report(result)
                else:
                    read.append((str(image) if isinstance(image, Path) else None, result))
            if not read:
                continue
            # The yield is outside, because the caller keeps its own number of threads.
            with (
                memory_for(f"labelling {len(read)} images together", "a smaller batch size might fit"),
                threads_restored(),
            ):
                torch.set_num_threads(threads)
                ranked = _ranked(classifier, torch.stack([image for _, image in read]), top)
            for (path, _), classes in zip(read, ranked, strict=True):
                if not all(math.isfinite(each.probability) for each in classes):
                    where = path or "an image"
                    raise CheckpointError(f"the network gives no probabilities for {where}: its weights are damaged")
                yield Prediction(path, classes)


@torch.inference_mode()
def _ranked(classifier: Classifier, images_BCHW: Tensor, top: int) -> list[tuple[ClassProbability, ...]]:
    ranked = classifier.network(images_BCHW).softmax(dim=1).topk(top, dim=1)
    return [
        tuple(
            ClassProbability(classifier.class_names[position], probability)
            for probability, position in zip(values, positions, strict=True)
        )
        for values, positions in zip(ranked.values.tolist(), ranked.indices.tolist(), strict=True)
    ]


def _input_of(classifier: Classifier, image: OneImage) -> Tensor | DataError:
    """What the network takes for an image, `[C, H, W]`; or why the image cannot be read."""
    if isinstance(image, Tensor):
        return _input_of_tensor(classifier, image)
    where = str(image) if isinstance(image, Path) else "a PIL image"
    try:
        if isinstance(image, Image.Image):
            return classifier.transform(image)
        with open_image(image) as opened:
            return classifier.transform(to_rgb(opened))
    except UnidentifiedImageError:
        return UnreadableImageError(f"{where}: not readable as an image")
    except FileNotFoundError:
        return UnreadableImageError(f"{where}: there is no such file or folder")
    except UNREADABLE as error:
        return UnreadableImageError(f"{where}: not readable as an image: {error}")
    except MemoryError:
        return UnreadableImageError(f"{where}: the image is too large for this machine's memory")


def _input_of_tensor(classifier: Classifier, image_CHW: Tensor) -> Tensor:
    if image_CHW.dtype == torch.uint8 and image_CHW.shape[0] in _CHANNELS:
        return classifier.transform(transforms.to_pil_image(image_CHW))
    if image_CHW.is_floating_point() and image_CHW.shape == classifier.input_size:
        return image_CHW.detach().to("cpu", torch.float32)
    raise UserError(
        f"a tensor {list(image_CHW.shape)} of {image_CHW.dtype} is not an image; give a uint8 tensor [1 or 3, H, W], "
        f"or a floating tensor {list(classifier.input_size)} as the run's transform makes it"
    )
