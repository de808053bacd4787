"""Opens and fully decodes every image of a data set once, and keeps its properties."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from tqdm.auto import tqdm

from selfkd.data.listing import Listing
from selfkd.data.reading.decoding import UNREADABLE, to_rgb
from selfkd.data.splits import StoredImage

__all__ = ["Moments", "OpenedImages", "moments_of", "open_images"]

_CHUNK = 1024  # images whose encoded bytes are held at a time
_MEASURED_SIDE = 64  # of a larger image, about this many rows and columns give mean and standard deviation
_ORIENTATION = 0x0112  # EXIF
_TURNED = range(2, 9)
_ALPHA_MODES = frozenset({"RGBA", "LA", "PA", "RGBa", "La"})
_TRAITS = {"1": "greyscale", "L": "greyscale", "CMYK": "other colours", "YCbCr": "other colours"}
_TRAITS |= {"LAB": "other colours", "HSV": "other colours"}


class Moments(NamedTuple):
    """Mean and standard deviation of each channel, `[3]`, of pixel values in [0, 1]."""

    mean: NDArray[np.float64]
    std: NDArray[np.float64]


class OpenedImage(NamedTuple):
    """The properties of one image.

    Args:
        failure: why it cannot be decoded, or None. If it is not None, all others are empty.
        size: (width, height) in pixels.
        traits: what its conversion to RGB changes: keys of `checks.TRAITS`.
        digest: checksum of the RGB pixels and the size; 0 if there are none.
        first: mean of each channel, `[3]`, in [0, 1].
        second: mean of the square of each channel, `[3]`.
    """

    failure: str | None
    size: tuple[int, int] = (0, 0)
    traits: tuple[str, ...] = ()
    digest: int = 0
    first: NDArray[np.float64] | None = None
    second: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class OpenedImages:
    """The properties of all N images of a listing, in its order.

    Args:
        places: `[N]` file or row.
        splits: `[N]` name of the split.
        labels: `[N]`.
        failures: `[N]` why it cannot be decoded, or None.
        sizes: `[N]` (width, height).
        traits: `[N]` what its conversion to RGB changes.
        digests: `[N]` equal for images of equal pixels.
        moments: of each split, over the images that can be decoded; every image has the same weight.
    """

    places: list[str]
    splits: list[str]
    labels: list[int]
    failures: list[str | None]
    sizes: list[tuple[int, int]]
    traits: list[tuple[str, ...]]
    digests: NDArray[np.uint64]
    moments: dict[str, Moments]


def open_images(listing: Listing) -> OpenedImages:
    """Open and decode every image.

    Raises: DataError: if a table cannot be read to its end.
    """
    places, splits, labels = list[str](), list[str](), list[int]()
    failures, sizes, traits = list[str | None](), list[tuple[int, int]](), list[tuple[str, ...]]()
    digests: list[int] = []
    moments: dict[str, Moments] = {}
    with (
        ThreadPoolExecutor() as pool,  # PIL decodes and hashlib digests outside the interpreter lock
        tqdm(total=sum(map(len, listing.splits.values())), desc="opening images", unit="image", disable=None) as bar,
    ):
        for name, split in listing.splits.items():
            sums_33 = np.zeros((3, 3))  # count, mean and mean square of 3 channels
            for chunk in _chunks(split.stored_images(name)):
                for stored, image in zip(chunk, pool.map(_opened, chunk), strict=True):
                    places.append(stored.place)
                    splits.append(name)
                    labels.append(stored.label)
                    failures.append(image.failure)
                    sizes.append(image.size)
                    traits.append(image.traits)
                    digests.append(image.digest)
                    if image.first is not None and image.second is not None:
                        sums_33 += (np.ones(3), image.first, image.second)
                bar.update(len(chunk))
            if sums_33.any():
                moments[name] = _moments(*sums_33)
    return OpenedImages(places, splits, labels, failures, sizes, traits, np.array(digests, np.uint64), moments)


def moments_of(images: NDArray[np.uint8]) -> Moments:
    """The moments of images in memory, `[N, 3, H, W]`."""
    values = images.astype(np.float64) / 255
    return Moments(values.mean(axis=(0, 2, 3)), values.std(axis=(0, 2, 3)))


def _moments(count: NDArray[np.float64], first: NDArray[np.float64], second: NDArray[np.float64]) -> Moments:
    mean = first / count
    return Moments(mean, np.sqrt(np.maximum(second / count - mean**2, 0)))


def _chunks(images: Iterator[StoredImage]) -> Iterator[list[StoredImage]]:
    while chunk := list(islice(images, _CHUNK)):
        yield chunk


def _opened(stored: StoredImage) -> OpenedImage:
    try:
        with stored.open() as image:
            traits = tuple(_traits(image))  # before decoding, after which PIL no longer knows how pixels were stored
            rgb = to_rgb(image)
            if "alpha" in traits and _is_opaque(image):
                traits = tuple(trait for trait in traits if trait != "alpha")
    except UnidentifiedImageError:
        return OpenedImage("it is no image, whatever its name says")
    except UNREADABLE as error:
        return OpenedImage(getattr(error, "strerror", None) or str(error))
    except MemoryError:
        return OpenedImage("decoded, it needs more memory than there is")
    pixels = np.asarray(rgb)
    height, width, _ = pixels.shape
    digest = hashlib.blake2b(pixels.tobytes(), digest_size=8, person=f"{width}x{height}".encode())
    sample = pixels[:: max(1, height // _MEASURED_SIDE), :: max(1, width // _MEASURED_SIDE)].reshape(-1, 3) / 255.0
    return OpenedImage(
        None,
        (width, height),
        traits,
        int.from_bytes(digest.digest(), "big"),
        sample.mean(axis=0),
        np.square(sample).mean(axis=0),
    )


def _traits(image: Image.Image) -> Iterator[str]:
    """What conversion to RGB changes in an image."""
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
    """Whether every pixel is opaque, though the image stores transparency; many programs save it so."""
    return "A" in image.getbands() and image.getchannel("A").getextrema()[0] == 255
