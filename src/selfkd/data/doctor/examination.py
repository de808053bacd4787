"""The doctor at work: a data set listed, opened and judged; and the part that costs nothing when training starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from selfkd.data.doctor.checks import FULL, QUICK, Check, Examination, Stem
from selfkd.data.doctor.file_listing import list_folder, list_imagenet, list_tiny_imagenet
from selfkd.data.doctor.findings import Finding, Severity
from selfkd.data.doctor.listing import Listing, list_loaded, list_tables
from selfkd.data.doctor.survey import Moments, Survey, moments_of, survey
from selfkd.data.sources.base import Source
from selfkd.data.sources.cifar import CIFAR
from selfkd.data.sources.folder import Folder
from selfkd.data.sources.imagenet import ImageNet
from selfkd.data.sources.own_images import OwnImages
from selfkd.data.sources.split_names import SplitNames
from selfkd.data.sources.table_source import TableSource
from selfkd.data.sources.tiny_imagenet import TinyImageNet
from selfkd.data.splits import ImageSet, Splits
from selfkd.errors import DataError, UserError

__all__ = ["examine", "first_look"]

_ORDER: tuple[Severity, ...] = ("error", "warning", "note")
_MEASURED = 1000  # training images whose mean and deviation a first look takes
_SMALLEST_SIDE = 8


def _list_cifar(source: Source, seed: int) -> Listing:
    assert isinstance(source, CIFAR)
    unpacked = source.root is None or (Path(source.root).expanduser() / source.torchvision_class.base_folder).is_dir()
    return (list_loaded if unpacked or source.download else list_tables)(source, seed)


_LISTERS: Mapping[type, Callable[[Source, int], Listing]] = {
    Folder: list_folder,
    ImageNet: list_imagenet,
    TinyImageNet: list_tiny_imagenet,
    TableSource: list_tables,
    CIFAR: _list_cifar,
    Source: list_loaded,
}
"""How the images of each kind of data set are listed; the first that fits counts."""


def examine(
    source: Source, seed: int, stem_at: Callable[[int, int], Stem] | None = None, quick: bool = False
) -> tuple[Listing, list[Finding]]:
    """All that can be found about a data set.

    Args:
        source: the data set with its options.
        seed: of what is drawn, as in training.
        stem_at: the stem of the network to be trained, from K and the side of its input; None for no network.
        quick: open no image.
    Returns: what the data set consists of, and the findings, most severe first.
    Raises:
        OptionError: if an option is not allowed.
        UserError: if a library that reads the data is missing.
    """
    listing = _listed(source, seed)
    findings = list(listing.findings)
    surveyed = None
    if not quick:
        try:
            surveyed = survey(listing.specimens(), sum(int(counts.sum()) for counts in listing.counts.values()))
        except DataError as error:  # a table that breaks off
            findings.append(Finding("error", "unreadable images", str(error)))
    source, side, suggestion = _sized(source, surveyed, listing)
    findings += suggestion
    examination = Examination(
        source=source,
        class_names=listing.class_names,
        train=listing.roles.train,
        counts=listing.counts,
        side=side,
        moments=None if surveyed is None else surveyed.moments.get(listing.roles.train),
        survey=surveyed,
    )
    if stem_at is not None and len(listing.class_names) > 1:
        examination = replace(examination, stem=stem_at(len(listing.class_names), side))
    findings += _judged(FULL, examination)
    # What nothing above has seen, training would: a share that a class cannot give, a class that is not there.
    if not any(finding.severity == "error" for finding in findings):
        findings += _refused(source, seed)
    return listing, sorted(findings, key=lambda finding: _ORDER.index(finding.severity))


def first_look(source: Source, splits: Splits, stem: Stem | None) -> list[Finding]:
    """What costs nothing to find in data that was loaded to train on it: warnings only."""
    examination = Examination(
        source=source,
        class_names=splits.class_names,
        train="train",
        counts={
            name: np.bincount(split.labels.numpy(), minlength=len(splits.class_names))
            for name, split in splits.by_name.items()
        },
        side=splits.train.input_size[-1],
        stem=stem,
        moments=_sampled(splits),
    )
    return [finding for finding in _judged(QUICK, examination) if finding.severity == "warning"]


def _listed(source: Source, seed: int) -> Listing:
    lister = next(lister for kind, lister in _LISTERS.items() if isinstance(source, kind))
    try:
        return lister(source, seed).of_classes(source.classes)
    except (DataError, OSError) as error:  # the latter of a folder that must not be read
        roles = SplitNames("train", None, None)
        nothing = {roles.train: np.zeros(0, np.int64)}
        return Listing((), roles, nothing, lambda: iter(()), (Finding("error", "layout", str(error)),))


def _judged(checks: Iterable[Check], examination: Examination) -> list[Finding]:
    return [finding for check in checks for finding in check(examination)]


def _refused(source: Source, seed: int) -> list[Finding]:
    """Why training would refuse the data, though every image is readable."""
    try:
        source.cut(seed)
    except UserError as error:
        return [Finding("error", "loading", str(error))]
    return []


def _sized(source: Source, surveyed: Survey | None, listing: Listing) -> tuple[Source, int, list[Finding]]:
    """The data set with an image size, that size, and a note if nobody gave it."""
    if not isinstance(source, OwnImages) or source.image_size is not None:
        return source, int(getattr(source, "image_size", 32)), []
    sides = [min(size) for size in surveyed.sizes if size != (0, 0)] if surveyed is not None else _first_side(listing)
    side = max(_SMALLEST_SIDE, int(np.median(sides))) if sides else 32
    if source.resize is not None:
        side = min(side, source.resize)
    message = f"data.image_size was not given and is taken as {side}, the usual shorter side; training needs it"
    return replace(source, image_size=side), side, [Finding("note", "image sizes", message)]


def _first_side(listing: Listing) -> list[int]:
    """The shorter side of the first image that can be opened, without decoding it."""
    for specimen in listing.specimens():
        try:
            with specimen.open() as image:
                return [min(image.size)]
        except (OSError, SyntaxError, ValueError):
            continue
    return []


def _sampled(splits: Splits) -> Moments | None:
    """Mean and deviation of some training images, evenly drawn; None where they lie on disk."""
    if not isinstance(splits.train, ImageSet):
        return None
    step = max(1, len(splits.train) // _MEASURED)
    return moments_of(splits.train.images[::step].numpy())
