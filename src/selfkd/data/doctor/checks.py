"""The checks. Each looks at one property of a data set and yields findings."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from selfkd.contract import Preprocessing
from selfkd.data.doctor.findings import Finding, Severity
from selfkd.data.doctor.opened_images import Moments, OpenedImages
from selfkd.data.listing import Listing
from selfkd.data.sources.base import Source
from selfkd.data.sources.preprocessing import options_for
from selfkd.memories import History

__all__ = ["FULL", "QUICK", "Check", "CheckedData", "Stem"]

_TINY = 10  # a class with fewer training images is hard to learn
_IMBALANCED, _UNEVEN = 10, 3  # size of the largest class divided by that of the smallest
_SHIFT, _SCALE = 0.5, 2  # limits of the normalised images: distance of the mean from 0, factor of the deviation from 1
_CONSTANT = 1e-4  # a channel with a smaller deviation has the same value in all images
_SMALL_IMAGE = 64
_STEM_REDUCTION = 4
_ENLARGED = 2
_ELONGATED = 2
_HEADS = ("main", "branch1", "branch2", "branch3")
_MADE_SQUARE = {"squash": "stretched", "border": "padded"}  # by crop mode; the other modes cut out the centre


@dataclass(frozen=True)
class Stem:
    """The first layers and the stages of a network, on images of one size.

    Args:
        backbone: name of the network.
        stride: stride of the first convolution; 1 if there is none.
        stage_sides: sides of the four stage maps in pixels, shallow to deep.
        preprocessing: how images were prepared for its pretrained weights; None if it is trained from scratch.
    """

    backbone: str
    stride: int
    stage_sides: tuple[int, ...]
    preprocessing: Preprocessing | None = None


@dataclass(frozen=True)
class CheckedData:
    """What the checks know about a data set.

    Args:
        source: the data set with its options.
        listing: its images and labels.
        side: side of the network's input in pixels.
        stem: the stem of the network to train; None if no network was named.
        moments: mean and standard deviation of the training images; None if they were not measured.
        images: properties of every image; None if no image was opened.
    """

    source: Source
    listing: Listing
    side: int
    stem: Stem | None = None
    moments: Moments | None = None
    images: OpenedImages | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in label order."""
        return self.listing.class_names

    @property
    def counts(self) -> Mapping[str, NDArray[np.int64]]:
        """Images of each class, `[K]`, by split."""
        return self.listing.counts

    @property
    def train_counts(self) -> NDArray[np.int64]:
        """Training images of each class, `[K]`."""
        return self.counts.get(self.listing.names.train, np.zeros(len(self.class_names), np.int64))


Check = Callable[[CheckedData], Iterable[Finding]]


def class_sizes(data: CheckedData) -> Iterator[Finding]:
    """Classes with few training images, without any, and without an image in another split."""
    sizes = data.train_counts
    if data.source.train_per_class is None:  # else the user asked for this number
        tiny = np.flatnonzero((sizes > 0) & (sizes < _TINY))
        if len(tiny):
            yield Finding(
                "warning",
                "tiny classes",
                f"classes with fewer than {_TINY} training images: {len(tiny)}",
                tuple(f"{data.class_names[label]}: {sizes[label]}" for label in tiny),
            )
    for split, counts in data.counts.items():
        absent = np.flatnonzero(counts == 0)
        if counts.any() and len(absent):
            # Unless data.classes leaves them out, training refuses classes without a training image.
            needed = split == data.listing.names.train and data.source.classes is None
            yield Finding(
                "error" if needed else "warning",
                "empty classes",
                f"classes without an image in {split}: {len(absent)}",
                tuple(data.class_names[label] for label in absent),
            )


def class_names(data: CheckedData) -> Iterator[Finding]:
    """Classes with nearly the same name, which may be one class written in several ways."""
    alike: dict[str, list[str]] = {}
    for name in data.class_names:
        alike.setdefault("".join(unicodedata.normalize("NFKC", name).casefold().split()), []).append(name)
    groups = tuple(" and ".join(map(repr, names)) for names in alike.values() if len(names) > 1)
    if groups:
        message = (
            f"groups of classes whose names differ only in spaces, capitals or letter codes: {len(groups)}; if a group "
            "is meant to be one class, put its images together"
        )
        yield Finding("warning", "classes", message, groups)


def imbalance(data: CheckedData) -> Iterator[Finding]:
    """How much larger the largest class is than the smallest."""
    sizes = data.train_counts
    if not sizes.any():
        return
    largest, smallest = int(sizes.argmax()), int(np.where(sizes > 0, sizes, sizes.max() + 1).argmin())
    ratio = sizes[largest] / sizes[smallest]
    if ratio < _UNEVEN:
        return
    yield Finding(
        "warning" if ratio >= _IMBALANCED else "note",
        "class imbalance",
        f"{data.class_names[largest]} has {ratio:.1f} times as many training images as {data.class_names[smallest]} "
        f"({sizes[largest]} and {sizes[smallest]}); a network that always predicts {data.class_names[largest]} is "
        f"right for {sizes[largest] / sizes.sum():.0%} of them",
    )


def stem(data: CheckedData) -> Iterator[Finding]:
    """A network for large images on small ones: it discards most of the pixels before its first stage."""
    if data.stem is None:
        return
    first = data.stem.stage_sides[0]
    # A network of one resolution (a transformer) cuts patches; unlike a strided stem, it discards nothing.
    pyramid = len(set(data.stem.stage_sides)) > 1
    if pyramid and data.side <= _SMALL_IMAGE and data.stem.stride > 1 and data.side / first >= _STEM_REDUCTION:
        sides = ", ".join(f"{side}x{side}" for side in data.stem.stage_sides)
        yield Finding(
            "warning",
            "stem",
            f"{data.stem.backbone} is made for large images: it reduces {data.side}x{data.side} to {first}x{first} "
            f"by the end of its first stage (its stages: {sides}); at 32x32 this has cost more than 10 points of "
            "accuracy. Use a network for small images (*_cifar in 'selfkd list backbones'), or a larger "
            "data.image_size if the files have more pixels",
        )


def pretrained(data: CheckedData) -> Iterator[Finding]:
    """How images should be prepared for pretrained weights, and whether they are."""
    preprocessing = None if data.stem is None else data.stem.preprocessing
    if data.stem is None or preprocessing is None:
        return
    given = {each.name: getattr(data.source, each.name) for each in fields(data.source)}
    if "resize" in given:
        given["resize"] = given["resize"] or data.side
    expected = options_for(preprocessing, {"data": given})["data"]
    others = [f"data.{option}={_written(given[option])}" for option in expected if given[option] != expected[option]]
    wanted = " ".join(f"data.{option}={_written(value)}" for option, value in expected.items())
    if preprocessing.side != data.side:
        wanted += f" (made at {preprocessing.side}x{preprocessing.side})"
    yield Finding(
        "warning" if others else "note",
        "pretrained weights",
        f"the weights of {data.stem.backbone} expect {wanted}"
        + (f"; the options differ: {' '.join(others)}" if others else "; the options are the same"),
    )
    made = _MADE_SQUARE.get(preprocessing.crop_mode)
    if made is not None and "resize" in given:
        yield Finding(
            "warning",
            "pretrained weights",
            f"the weights of {data.stem.backbone} expect images that were {made} to a square; here the centre is cut "
            "out instead, which differs for every image that is not square",
        )


def memory(data: CheckedData) -> Iterator[Finding]:
    """The memory that the images and a history of predictions take."""
    sizes, most = data.train_counts, data.source.train_per_class
    num_classes, train = len(data.class_names), int((sizes if most is None else np.minimum(sizes, most)).sum())
    images = train + sum(
        int(counts.sum()) for split, counts in data.counts.items() if split != data.listing.names.train
    )
    if not train or num_classes < 2:
        return
    history = History(train, num_classes, _HEADS).nbytes
    yield Finding(
        "note",
        "memory",
        f"{images} decoded images take {_size(images * 3 * data.side**2)} at {data.side}x{data.side}; a history of the "
        f"predictions of {len(_HEADS)} heads takes {_size(history)}",
    )


def normalisation(data: CheckedData) -> Iterator[Finding]:
    """Measured mean and standard deviation, compared with the options that normalise images."""
    if data.moments is None:
        return
    mean, std = data.moments
    given_mean, given_std = np.array(data.source.mean), np.array(data.source.std)
    shift, scale = (mean - given_mean) / given_std, std / given_std
    far = bool(np.abs(shift).max() > _SHIFT or scale.max() > _SCALE or scale.min() < 1 / _SCALE)
    if data.stem is not None and data.stem.preprocessing is not None:
        far = False  # pretrained weights expect the numbers that they were trained with
    measured = f"data.mean={_row(mean)} data.std={_row(std)}"
    advice = f", far from 0 and 1; unless the network's weights are pretrained, give {measured}" if far else ""
    if std.min() < _CONSTANT:
        advice = "; a channel with the same value in all images teaches nothing: look at the images"
    yield Finding(
        "warning" if far else "note",
        "normalisation",
        f"the training images have mean {_row(mean)} and deviation {_row(std)}; "
        f"normalised with data.mean={_row(data.source.mean)} data.std={_row(data.source.std)} "
        f"the network sees mean {_row(shift, 2)} and deviation {_row(scale, 2)}{advice}",
    )


def unreadable(data: CheckedData) -> Iterator[Finding]:
    """Images that cannot be decoded."""
    if data.images is None:
        return
    found = [f"{place}: {why}" for place, why in zip(data.images.places, data.images.failures, strict=True) if why]
    if found:
        message = f"images that cannot be decoded: {len(found)}; replace or delete them"
        yield Finding("error", "unreadable images", message, tuple(found))


# By trait: its severity, and a message that says what happens to such images.
_TRAITS: Mapping[str, tuple[Severity, str]] = {
    "greyscale": ("note", "greyscale images: {}; they get three equal channels"),
    "other colours": ("note", "images in other colours than RGB (CMYK, YCbCr, ...): {}; they are converted"),
    "alpha": (
        "warning",
        "transparent images: {}; transparency is dropped, and the hidden colours become visible",
    ),
    "deep grey": (
        "warning",
        "images with more than 8 bits of grey: {}; the upper 8 of 16 bits are kept, so an image that uses only the "
        "lower 8 becomes black",
    ),
    "deep colour": ("note", "images with 16 bits per channel: {}; the upper 8 of 16 bits are kept"),
    "turned": (
        "warning",
        "images with an EXIF orientation: {}; training ignores it and uses the pixels as they are stored",
    ),
}


def colours(data: CheckedData) -> Iterator[Finding]:
    """Images that conversion to RGB changes."""
    if data.images is None:
        return
    places: dict[str, list[str]] = {trait: [] for trait in _TRAITS}
    for place, traits in zip(data.images.places, data.images.traits, strict=True):
        for trait in traits:
            places[trait].append(place)
    for trait, (severity, what) in _TRAITS.items():
        if places[trait]:
            yield Finding(severity, "colours", what.format(len(places[trait])), tuple(places[trait]))


def sizes(data: CheckedData) -> Iterator[Finding]:
    """Sizes of the images, compared with the size of the network's input."""
    if data.images is None:
        return
    known = [(place, size) for place, size in zip(data.images.places, data.images.sizes, strict=True) if size != (0, 0)]
    if not known:
        return
    counted = Counter(size for _, size in known)
    shorter = np.array([min(size) for _, size in known])
    (width, height), most = counted.most_common(1)[0]
    message = f"all are {width}x{height}"
    if len(counted) > 1:
        message = (
            f"{len(counted)} different sizes; {most} of {len(known)} images are {width}x{height}; the shorter side has "
            f"{shorter.min()} to {shorter.max()} pixels, the median is {int(np.median(shorter))}"
        )
    yield Finding("note", "image sizes", message)
    small = tuple(f"{place}: {w}x{h}" for place, (w, h) in known if min(w, h) * _ENLARGED < data.side)
    if len(small) * 2 > len(known):
        message = (
            f"images enlarged more than {_ENLARGED} times to reach {data.side} pixels: {len(small)}; this adds work "
        )
        yield Finding("warning", "image sizes", message + "and no detail; a smaller data.image_size fits them better")
    long = tuple(f"{place}: {w}x{h}" for place, (w, h) in known if max(w, h) > _ELONGATED * min(w, h))
    if long:
        message = f"images over {_ELONGATED} times as long as wide: {len(long)}; only their centre is used"
        yield Finding("note", "image sizes", message, long)


def duplicates(data: CheckedData) -> Iterator[Finding]:
    """Images with equal pixels: in several splits, with several classes, or repeated."""
    if data.images is None:
        return
    leaked, contradictory, repeated = list[str](), list[str](), list[str]()
    for group in _equal(data.images):
        splits = {data.images.splits[position] for position in group}
        labels = {data.images.labels[position] for position in group}
        line = " = ".join(_place(data, position) for position in group)
        if len(splits) > 1:
            leaked.append(line)
        if len(labels) > 1:
            contradictory.append(line)
        if len(splits) == 1 and len(labels) == 1:
            repeated.append(line)
    if leaked:
        message = f"images in several splits: {len(leaked)}; scores on them measure what the network has memorised"
        yield Finding("warning", "duplicates", message, tuple(leaked))
    if contradictory:
        message = f"images with several classes: {len(contradictory)}; at most one of the labels is right"
        yield Finding("warning", "duplicates", message, tuple(contradictory))
    if repeated:
        message = f"images that a class of one split has more than once: {len(repeated)}"
        if len(data.counts) == 1:
            message += "; the same image can be in both the training and the test split that is held out"
        yield Finding("note", "duplicates", message, tuple(repeated))


QUICK: tuple[Check, ...] = (class_sizes, class_names, imbalance, stem, pretrained, normalisation, memory)
"""The checks that open no image."""

FULL: tuple[Check, ...] = (unreadable, *QUICK, colours, sizes, duplicates)
"""All checks."""


def _equal(images: OpenedImages) -> Iterator[list[int]]:
    """Groups of positions of images with equal pixels, in the order of their first image."""
    readable = np.array([failure is None for failure in images.failures], dtype=bool)
    positions = np.flatnonzero(readable)
    _, group_of, sizes = np.unique(images.digests[positions], return_inverse=True, return_counts=True)
    groups: dict[int, list[int]] = {}
    for position, group in zip(positions.tolist(), group_of.tolist(), strict=True):
        if sizes[group] > 1:
            groups.setdefault(group, []).append(position)
    yield from groups.values()


def _place(data: CheckedData, position: int) -> str:
    """The place of an image, with its class if the path does not show it."""
    assert data.images is not None
    place, label = data.images.places[position], data.images.labels[position]
    name = data.class_names[label] if 0 <= label < len(data.class_names) else str(label)
    return place if name in place.split("/") else f"{place} ({name})"


def _written(value: object) -> str:
    """As options are written."""
    return _row(value) if isinstance(value, tuple) else str(value)


def _row(values: Iterable[float], digits: int = 4) -> str:
    """As options are written."""
    return "[" + ",".join(str(round(float(value), digits)) for value in values) + "]"


def _size(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.2f} MB"
