"""Every image opened and fully decoded once: what each one is, and what all are together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from selfkd.data.doctor.listing import Specimen
from selfkd.data.reading.decoding import UNREADABLE, to_rgb

__all__ = ["Moments", "Observed", "Survey", "moments_of", "survey"]

_CHUNK = 1024  # images whose encoded bytes are held at a time
_MEASURED_SIDE = 64  # of larger images only so many rows and columns count for mean and deviation
_ORIENTATION = 0x0112  # EXIF
_TURNED = range(2, 9)
_ALPHA_MODES = frozenset({"RGBA", "LA", "PA", "RGBa", "La"})
_TRAITS = {"1": "greyscale", "L": "greyscale", "CMYK": "other colours", "YCbCr": "other colours"}
_TRAITS |= {"LAB": "other colours", "HSV": "other colours"}


class Moments(NamedTuple):
    """Mean and deviation of each channel, `[3]`, of pixel values in [0, 1]."""

    mean: NDArray[np.float64]
    std: NDArray[np.float64]


class Observed(NamedTuple):
    """What one image is.

    Args:
        failure: why it cannot be decoded, or None; then all others are empty.
        size: (width, height) in pixels.
        traits: what conversion to RGB changes, as words of `checks`.
        digest: of the RGB pixels and the size; 0 if there are none.
        first: mean of each channel, `[3]`, in [0, 1].
        second: mean of its square.
    """

    failure: str | None
    size: tuple[int, int] = (0, 0)
    traits: tuple[str, ...] = ()
    digest: int = 0
    first: NDArray[np.float64] | None = None
    second: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Survey:
    """What came out, image by image in the order of the listing; N images.

    Args:
        where: `[N]` file or row.
        splits: `[N]` name of the split.
        labels: `[N]`.
        failures: `[N]` why it cannot be decoded, or None.
        sizes: `[N]` (width, height).
        traits: `[N]` what conversion to RGB changes.
        digests: `[N]` equal for images of equal pixels.
        moments: of each split, every image weighing the same; without those that cannot be decoded.
    """

    where: list[str]
    splits: list[str]
    labels: list[int]
    failures: list[str | None]
    sizes: list[tuple[int, int]]
    traits: list[tuple[str, ...]]
    digests: NDArray[np.uint64]
    moments: dict[str, Moments]


def survey(specimens: Iterable[Specimen], total: int) -> Survey:
    """Open every image.

    Args:
        specimens: the images.
        total: how many there are, for the progress bar, which only a terminal shows.
    """
    where, splits, labels = list[str](), list[str](), list[int]()
    failures, sizes, traits = list[str | None](), list[tuple[int, int]](), list[tuple[str, ...]]()
    digests: list[int] = []
    sums: dict[str, NDArray[np.float64]] = {}  # [3: count, mean, mean of squares; 3 channels]
    with (
        ThreadPoolExecutor() as pool,  # PIL decodes and hashlib digests outside the interpreter lock
        tqdm(total=total, desc="opening images", unit="image", disable=None) as bar,
    ):
        for chunk in _chunks(specimens):
            for specimen, seen in zip(chunk, pool.map(_observed, chunk), strict=True):
                where.append(specimen.where)
                splits.append(specimen.split)
                labels.append(specimen.label)
                failures.append(seen.failure)
                sizes.append(seen.size)
                traits.append(seen.traits)
                digests.append(seen.digest)
                if seen.first is not None and seen.second is not None:
                    total_of_split = sums.setdefault(specimen.split, np.zeros((3, 3)))
                    total_of_split += (np.ones(3), seen.first, seen.second)
            bar.update(len(chunk))
    moments = {name: _moments(*sums_33) for name, sums_33 in sums.items()}
    return Survey(where, splits, labels, failures, sizes, traits, np.array(digests, np.uint64), moments)


def moments_of(images: NDArray[np.uint8]) -> Moments:
    """Of images in memory, `[N, 3, H, W]`."""
    values = images.astype(np.float64) / 255
    return Moments(values.mean(axis=(0, 2, 3)), values.std(axis=(0, 2, 3)))


def _moments(count: NDArray[np.float64], first: NDArray[np.float64], second: NDArray[np.float64]) -> Moments:
    mean = first / count
    return Moments(mean, np.sqrt(np.maximum(second / count - mean**2, 0)))


def _chunks(specimens: Iterable[Specimen]) -> Iterator[list[Specimen]]:
    iterator = iter(specimens)
    while chunk := list(islice(iterator, _CHUNK)):
        yield chunk


def _observed(specimen: Specimen) -> Observed:
    try:
        with specimen.open() as image:
            traits = tuple(_traits(image))  # before decoding, which forgets how the file stores its pixels
            rgb = to_rgb(image)
            if "alpha" in traits and _is_opaque(image):
                traits = tuple(trait for trait in traits if trait != "alpha")
    except UnidentifiedImageError:
        return Observed("it is no image, whatever its name says")
    except UNREADABLE as error:
        return Observed(getattr(error, "strerror", None) or str(error))
    except MemoryError:
        return Observed("decoded, it needs more memory than there is")
    pixels = np.asarray(rgb)
    height, width, _ = pixels.shape
    digest = hashlib.blake2b(pixels.tobytes(), digest_size=8, person=f"{width}x{height}".encode())
    sample = pixels[:: max(1, height // _MEASURED_SIDE), :: max(1, width // _MEASURED_SIDE)].reshape(-1, 3) / 255.0
    return Observed(
        None,
        (width, height),
        traits,
        int.from_bytes(digest.digest(), "big"),
        sample.mean(axis=0),
        np.square(sample).mean(axis=0),
    )


def _traits(image: Image.Image) -> Iterator[str]:
    """What of an image is lost or changed on its way to RGB."""
    if image.mode in _TRAITS:
        yield _TRAITS[image.mode]
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        yield "alpha"
    if image.mode.startswith(("I", "F")):
        yield "deep grey"
    elif any(";16" in str(tile[3]) for tile in getattr(image, "tile", ())):
        yield "deep colour"
    if image.format is not None and image.getexif().get(_ORIENTATION) in _TURNED:
        yield "turned"


def _is_opaque(image: Image.Image) -> bool:
    """Whether nothing shines through, though the image says how much may; many programs save it so."""
    return "A" in image.getbands() and image.getchannel("A").getextrema()[0] == 255
