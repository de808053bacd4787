"""Applies all checks to a data set, and those that cost nothing to the data of a training."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
from PIL import Image

from selfkd.data.doctor.checks import FULL, QUICK, Check, CheckedData, Stem
from selfkd.data.doctor.findings import Finding, Severity
from selfkd.data.doctor.layout import check_layout
from selfkd.data.doctor.opened_images import Moments, OpenedImages, moments_of, open_images
from selfkd.data.listing import Listing, Problem
from selfkd.data.reading.decoding import UNREADABLE
from selfkd.data.sources.base import Source
from selfkd.data.splits import ImageSet, Splits
from selfkd.errors import DataError, OptionError, UserError

__all__ = ["check_source", "training_warnings"]

_ORDER: tuple[Severity, ...] = ("error", "warning", "note")
_MEASURED = 1000  # training images that give mean and standard deviation before training
_SMALLEST_SIDE, _USUAL_SIDE = 8, 32


def check_source(
    source: Source, seed: int, stem_at: Callable[[int, int], Stem] | None = None, quick: bool = False
) -> tuple[Listing, list[Finding]]:
    """Everything that can be found about a data set.

    Args:
        source: the data set with its options.
        seed: seed of the draws, as in training.
        stem_at: gives the stem of the network to train from K and the side of its input; None for no network.
        quick: open no image.
    Returns: the listing of the data set, and the findings, most severe first.
    Raises:
        OptionError: if an option is not allowed.
        UserError: if a library that reads the data is missing.
    """
    listing = _listing(source, seed)
    findings = [Finding("error", problem.subject, problem.message, problem.places) for problem in listing.problems]
    findings += check_layout(listing)
    images = None
    if not quick:
        try:
            images = open_images(listing)
        except DataError as error:  # a table that cannot be read to its end
            findings.append(Finding("error", "unreadable images", str(error)))
    sized = source
    if source.lacks_image_size:
        sized = source.with_image_size(_usual_side(images, listing))
    data = CheckedData(sized, listing, _input_side(sized), images=images)
    if source.lacks_image_size:
        message = (
            f"data.image_size was not given; {data.side}, the usual shorter side, is used here. The recipes for "
            "photographs, photos/..., set 224; in training with another recipe, give it"
        )
        findings.append(Finding("note", "image sizes", message))
    if stem_at is not None and len(listing.class_names) > 1:
        data = replace(data, stem=stem_at(len(listing.class_names), data.side))
    if images is not None:
        data = replace(data, moments=images.moments.get(listing.names.train))
    findings += _found(FULL, data)
    # Training may still refuse the data: a class may be too small for a share, or not exist.
    if not any(finding.severity == "error" for finding in findings):
        findings += _refused(sized, seed, listing)
    return listing, sorted(findings, key=lambda finding: _ORDER.index(finding.severity))


def training_warnings(source: Source, splits: Splits, stem: Stem | None) -> list[Finding]:
    """The warnings that cost nothing to find in loaded data."""
    data = CheckedData(source, Listing.of(splits), splits.train.input_size[-1], stem, _sampled_moments(splits))
    return [finding for finding in _found(QUICK, data) if finding.severity == "warning"]


def _listing(source: Source, seed: int) -> Listing:
    """The images that training would use, and what is wrong with the data set."""
    try:
        sized = source.with_image_size(_SMALLEST_SIDE) if source.lacks_image_size else source  # nothing is scaled here
        listing = sized.listing(seed)
    except (DataError, OSError) as error:  # OSError: of a folder that must not be read
        return Listing.unknown(Problem("layout", str(error)))
    if source.classes is None:
        return listing
    try:
        return listing.of_classes(source.labels_to_keep(listing.class_names))
    except OptionError:  # there is no such class, which `_refused` reports
        return listing


def _found(checks: Iterable[Check], data: CheckedData) -> list[Finding]:
    return [finding for check in checks for finding in check(data)]


def _refused(source: Source, seed: int, listing: Listing) -> list[Finding]:
    """The reason why training would refuse the data, though every image is readable."""
    try:
        source.reduced(seed, listing)
    except UserError as error:
        return [Finding("error", "loading", str(error))]
    return []


def _input_side(source: Source) -> int:
    """The side of the network's input in pixels, which is the same for every image."""
    return int(source.image_transform()(Image.new("RGB", (_USUAL_SIDE, _USUAL_SIDE))).shape[-1])


def _usual_side(images: OpenedImages | None, listing: Listing) -> int:
    """The median of the images' shorter sides; only of the first readable image if none was opened before."""
    sides = _first_side(listing) if images is None else [min(size) for size in images.sizes if size != (0, 0)]
    return max(_SMALLEST_SIDE, int(np.median(sides))) if sides else _USUAL_SIDE


def _first_side(listing: Listing) -> list[int]:
    """The shorter side of the first image that can be opened, without decoding it."""
    for name, split in listing.splits.items():
        for stored in split.stored_images(name):
            try:
                with stored.open() as image:
                    return [min(image.size)]
            except UNREADABLE:
                continue
    return []


def _sampled_moments(splits: Splits) -> Moments | None:
    """Mean and standard deviation of some training images, evenly spread; None if they are not in memory."""
    if not isinstance(splits.train, ImageSet):
        return None
    step = max(1, len(splits.train) // _MEASURED)
    return moments_of(splits.train.images[::step].numpy())
