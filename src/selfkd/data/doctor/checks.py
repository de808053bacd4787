"""The checks: each looks at an examination and says what it finds."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from selfkd.contract import Preprocessing
from selfkd.data.doctor.findings import Finding, Severity
from selfkd.data.doctor.survey import Moments, Survey
from selfkd.data.sources.base import Source
from selfkd.data.sources.preprocessing import options_for
from selfkd.memories import History

__all__ = ["FULL", "QUICK", "Check", "Examination", "Stem"]

_TINY = 10  # training images of a class, fewer than which are little to learn from
_IMBALANCED, _UNEVEN = 10, 3  # largest class by smallest
_SHIFT, _SCALE = 0.5, 2  # of normalised data: mean in deviations, deviation by which it is off
_CONSTANT = 1e-4  # deviation of a channel, below which it is not one
_SMALL_IMAGE = 64
_STEM_REDUCTION = 4
_ENLARGED = 2
_ELONGATED = 2
_HEADS = ("main", "branch1", "branch2", "branch3")
_MADE_SQUARE = {"squash": "stretched", "border": "padded"}  # by crop mode; of any other the centre is cut out


@dataclass(frozen=True)
class Stem:
    """How a network begins and ends on images of one size.

    Args:
        backbone: its name.
        stride: of its first convolution; 1 if it has none.
        stage_sides: side of its four stage maps in pixels, shallow to deep.
        preprocessing: what its pretrained weights expect of images; None if it is trained from scratch.
    """

    backbone: str
    stride: int
    stage_sides: tuple[int, ...]
    preprocessing: Preprocessing | None = None


@dataclass(frozen=True)
class Examination:
    """What is known of a data set when it is judged.

    Args:
        source: the data set with its options.
        class_names: in label order.
        train: the data set's own name of the training split.
        counts: images of each class, `[K]`, by split.
        side: of the network's input, in pixels.
        stem: of the network to be trained; None where none was named.
        moments: of the training images; None where they were not measured.
        survey: of every image; None where they were not opened.
    """

    source: Source
    class_names: tuple[str, ...]
    train: str
    counts: Mapping[str, NDArray[np.int64]]
    side: int
    stem: Stem | None = None
    moments: Moments | None = None
    survey: Survey | None = None


Check = Callable[[Examination], Iterable[Finding]]


def class_sizes(seen: Examination) -> Iterator[Finding]:
    """Classes with few training images, with none, and with none to evaluate on."""
    sizes = seen.counts[seen.train]
    if seen.source.train_per_class is None:  # else so many were asked for
        tiny = np.flatnonzero((sizes > 0) & (sizes < _TINY))
        if len(tiny):
            yield Finding(
                "warning",
                "tiny classes",
                f"classes with fewer than {_TINY} training images: {len(tiny)}",
                tuple(f"{seen.class_names[label]}: {sizes[label]}" for label in tiny),
            )
    for split, counts in seen.counts.items():
        absent = np.flatnonzero(counts == 0)
        if counts.any() and len(absent):
            # Unless data.classes leaves them out, training refuses classes without a training image.
            needed = split == seen.train and seen.source.classes is None
            yield Finding(
                "error" if needed else "warning",
                "empty classes",
                f"classes without an image in {split}: {len(absent)}",
                tuple(seen.class_names[label] for label in absent),
            )


def class_names(seen: Examination) -> Iterator[Finding]:
    """Classes whose names look the same, or nearly so: one class that was written in several ways."""
    alike: dict[str, list[str]] = {}
    for name in seen.class_names:
        alike.setdefault("".join(unicodedata.normalize("NFKC", name).casefold().split()), []).append(name)
    groups = tuple(" and ".join(map(repr, names)) for names in alike.values() if len(names) > 1)
    if groups:
        message = (
            f"classes whose names differ only in spaces, capitals or the coding of their letters: {len(groups)}; if "
            "they are meant to be one class, put their images together"
        )
        yield Finding("warning", "classes", message, groups)


def imbalance(seen: Examination) -> Iterator[Finding]:
    """How much larger the largest class is than the smallest."""
    sizes = seen.counts[seen.train]
    if not sizes.any():
        return
    largest, smallest = int(sizes.argmax()), int(np.where(sizes > 0, sizes, sizes.max() + 1).argmin())
    ratio = sizes[largest] / sizes[smallest]
    if ratio < _UNEVEN:
        return
    yield Finding(
        "warning" if ratio >= _IMBALANCED else "note",
        "class imbalance",
        f"{seen.class_names[largest]} has {ratio:.1f} times as many training images as {seen.class_names[smallest]} "
        f"({sizes[largest]} and {sizes[smallest]}); a network that always says {seen.class_names[largest]} is right in "
        f"{sizes[largest] / sizes.sum():.0%} of them",
    )


def stem(seen: Examination) -> Iterator[Finding]:
    """A network for large images on small ones, most of whose pixels it throws away before its first stage."""
    if seen.stem is None:
        return
    first = seen.stem.stage_sides[0]
    # A network of one resolution (a transformer) cuts patches, which is not what a convolutional stem loses.
    pyramid = len(set(seen.stem.stage_sides)) > 1
    if pyramid and seen.side <= _SMALL_IMAGE and seen.stem.stride > 1 and seen.side / first >= _STEM_REDUCTION:
        sides = ", ".join(f"{side}x{side}" for side in seen.stem.stage_sides)
        yield Finding(
            "warning",
            "stem",
            f"{seen.stem.backbone} is made for large images: it reduces {seen.side}x{seen.side} to {first}x{first} "
            f"before its first stage is done (its stages: {sides}), which has cost more than 10 points of accuracy at "
            "32x32; take a network for small images (the *_cifar ones of 'selfkd list backbones'), or a larger "
            "data.image_size where the files have more pixels",
        )


def pretrained(seen: Examination) -> Iterator[Finding]:
    """What pretrained weights expect of images, and whether they get it."""
    preprocessing = None if seen.stem is None else seen.stem.preprocessing
    if seen.stem is None or preprocessing is None:
        return
    given = {each.name: getattr(seen.source, each.name) for each in fields(seen.source)}
    if "resize" in given:
        given["resize"] = given["resize"] or seen.side
    expected = options_for(preprocessing, {"data": given})["data"]
    others = [f"data.{option}={_written(given[option])}" for option in expected if given[option] != expected[option]]
    wanted = " ".join(f"data.{option}={_written(value)}" for option, value in expected.items())
    if preprocessing.side != seen.side:
        wanted += f" (made at {preprocessing.side}x{preprocessing.side})"
    yield Finding(
        "warning" if others else "note",
        "pretrained weights",
        f"those of {seen.stem.backbone} expect {wanted}"
        + (f"; the images are prepared otherwise: {' '.join(others)}" if others else ", which the images get"),
    )
    made = _MADE_SQUARE.get(preprocessing.crop_mode)
    if made is not None and "resize" in given:
        yield Finding(
            "warning",
            "pretrained weights",
            f"those of {seen.stem.backbone} expect images to be {made} to a square; here images are cut from their "
            "centre instead, which differs for all that are not square",
        )


def memory(seen: Examination) -> Iterator[Finding]:
    """What the images and a history of predictions take."""
    sizes, most = seen.counts[seen.train], seen.source.train_per_class
    num_classes, train = len(seen.class_names), int((sizes if most is None else np.minimum(sizes, most)).sum())
    images = train + sum(int(counts.sum()) for split, counts in seen.counts.items() if split != seen.train)
    if not train or num_classes < 2:
        return
    history = History(train, num_classes, _HEADS).nbytes
    yield Finding(
        "note",
        "memory",
        f"{images} decoded images take {_size(images * 3 * seen.side**2)} at {seen.side}x{seen.side}; a history of the "
        f"predictions of {len(_HEADS)} heads takes {_size(history)}",
    )


def normalisation(seen: Examination) -> Iterator[Finding]:
    """Measured mean and deviation against those that images are normalised with."""
    if seen.moments is None:
        return
    mean, std = seen.moments
    given_mean, given_std = np.array(seen.source.mean), np.array(seen.source.std)
    shift, scale = (mean - given_mean) / given_std, std / given_std
    far = bool(np.abs(shift).max() > _SHIFT or scale.max() > _SCALE or scale.min() < 1 / _SCALE)
    if seen.stem is not None and seen.stem.preprocessing is not None:
        far = False  # pretrained weights expect what they were made with, whatever the images are
    measured = f"data.mean={_row(mean)} data.std={_row(std)}"
    advice = f", far from 0 and 1; unless the network's weights are pretrained, give {measured}" if far else ""
    if std.min() < _CONSTANT:
        advice = "; a channel that is the same in all of them teaches nothing: look at the images"
    yield Finding(
        "warning" if far else "note",
        "normalisation",
        f"the training images have mean {_row(mean)} and deviation {_row(std)}; "
        f"normalised with data.mean={_row(seen.source.mean)} data.std={_row(seen.source.std)} "
        f"the network sees mean {_row(shift, 2)} and deviation {_row(scale, 2)}{advice}",
    )


def unreadable(seen: Examination) -> Iterator[Finding]:
    """Files that are no images, or damaged."""
    if seen.survey is None:
        return
    found = [f"{place}: {why}" for place, why in zip(seen.survey.where, seen.survey.failures, strict=True) if why]
    if found:
        message = f"images that cannot be decoded: {len(found)}; replace or delete them"
        yield Finding("error", "unreadable images", message, tuple(found))


# Trait, how severe it is, and what happens to so many such images.
_TRAITS: Mapping[str, tuple[Severity, str]] = {
    "greyscale": ("note", "greyscale images: {}; their grey becomes three equal channels"),
    "other colours": ("note", "images in other colours than RGB (CMYK, YCbCr, ...): {}; they are converted"),
    "alpha": (
        "warning",
        "transparent images: {}; transparency is dropped, and what it hides becomes visible",
    ),
    "deep grey": (
        "warning",
        "images with more than 8 bits of grey: {}; the upper 8 of 16 are kept, which leaves those dark that use the "
        "lower ones alone",
    ),
    "deep colour": ("note", "images with 16 bits a channel: {}; the upper 8 are kept"),
    "turned": (
        "warning",
        "images that their EXIF data turn or mirror: {}; training takes the pixels as they lie",
    ),
}


def colours(seen: Examination) -> Iterator[Finding]:
    """Images that are not plain RGB, and what happens to them."""
    if seen.survey is None:
        return
    places: dict[str, list[str]] = {trait: [] for trait in _TRAITS}
    for place, traits in zip(seen.survey.where, seen.survey.traits, strict=True):
        for trait in traits:
            places[trait].append(place)
    for trait, (severity, what) in _TRAITS.items():
        if places[trait]:
            yield Finding(severity, "colours", what.format(len(places[trait])), tuple(places[trait]))


def sizes(seen: Examination) -> Iterator[Finding]:
    """Sizes of the images against the size that all are brought to."""
    if seen.survey is None:
        return
    known = [(place, size) for place, size in zip(seen.survey.where, seen.survey.sizes, strict=True) if size != (0, 0)]
    if not known:
        return
    counted = Counter(size for _, size in known)
    shorter = np.array([min(size) for _, size in known])
    (width, height), most = counted.most_common(1)[0]
    message = f"all are {width}x{height}"
    if len(counted) > 1:
        message = (
            f"{len(counted)} different ones; {most} of {len(known)} are {width}x{height}; the shorter side has "
            f"{shorter.min()} to {shorter.max()} pixels, the middle one {int(np.median(shorter))}"
        )
    yield Finding("note", "image sizes", message)
    small = tuple(f"{place}: {w}x{h}" for place, (w, h) in known if min(w, h) * _ENLARGED < seen.side)
    if len(small) * 2 > len(known):
        message = f"images enlarged more than {_ENLARGED} times to reach {seen.side} pixels: {len(small)}; that adds "
        yield Finding("warning", "image sizes", message + "work and no detail; a smaller data.image_size fits them")
    long = tuple(f"{place}: {w}x{h}" for place, (w, h) in known if max(w, h) > _ELONGATED * min(w, h))
    if long:
        message = f"images over {_ELONGATED} times as long as wide: {len(long)}; what overhangs their centre is cut"
        yield Finding("note", "image sizes", message, long)


def duplicates(seen: Examination) -> Iterator[Finding]:
    """Images of equal pixels: in several splits, of several classes, or just twice."""
    if seen.survey is None:
        return
    leaked, contradictory, repeated = list[str](), list[str](), list[str]()
    for group in _equal(seen.survey):
        splits = {seen.survey.splits[position] for position in group}
        labels = {seen.survey.labels[position] for position in group}
        line = " = ".join(_place(seen, position) for position in group)
        if len(splits) > 1:
            leaked.append(line)
        if len(labels) > 1:
            contradictory.append(line)
        if len(splits) == 1 and len(labels) == 1:
            repeated.append(line)
    if leaked:
        message = f"images in several splits: {len(leaked)}; scores on them measure memory"
        yield Finding("warning", "duplicates", message, tuple(leaked))
    if contradictory:
        message = f"images with several classes: {len(contradictory)}; at most one of the labels is right"
        yield Finding("warning", "duplicates", message, tuple(contradictory))
    if repeated:
        message = f"images that are there more than once in a class of one split: {len(repeated)}"
        if len(seen.counts) == 1:
            message += "; once a test split is held out, the same image can be in both"
        yield Finding("note", "duplicates", message, tuple(repeated))


QUICK: tuple[Check, ...] = (class_sizes, class_names, imbalance, stem, pretrained, normalisation, memory)
"""Checks that need no image opened."""

FULL: tuple[Check, ...] = (unreadable, *QUICK, colours, sizes, duplicates)
"""All checks."""


def _equal(survey: Survey) -> Iterator[list[int]]:
    """Positions of images with equal pixels, group by group, in the order of their first."""
    readable = np.array([failure is None for failure in survey.failures], dtype=bool)
    positions = np.flatnonzero(readable)
    _, group_of, sizes = np.unique(survey.digests[positions], return_inverse=True, return_counts=True)
    groups: dict[int, list[int]] = {}
    for position, group in zip(positions.tolist(), group_of.tolist(), strict=True):
        if sizes[group] > 1:
            groups.setdefault(group, []).append(position)
    yield from groups.values()


def _place(seen: Examination, position: int) -> str:
    """An image with its class, where its path does not say it."""
    assert seen.survey is not None
    place, label = seen.survey.where[position], seen.survey.labels[position]
    name = seen.class_names[label] if 0 <= label < len(seen.class_names) else str(label)
    return place if name in place.split("/") else f"{place} ({name})"


def _written(value: object) -> str:
    """As options are written."""
    return _row(value) if isinstance(value, tuple) else str(value)


def _row(values: Iterable[float], digits: int = 4) -> str:
    """As options are written."""
    return "[" + ",".join(str(round(float(value), digits)) for value in values) + "]"


def _size(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.2f} MB"
