"""Checks of class folders that training accepts, though they are probably a mistake."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from selfkd.data.doctor.findings import Finding
from selfkd.data.listing import Listing
from selfkd.data.reading.class_folders import loose_images, visible_folders
from selfkd.data.sources.split_names import SPLIT_NAMES
from selfkd.given_paths import is_folder

__all__ = ["check_layout"]

_PHONES = {".heic", ".heif", ".avif"}  # PIL reads the images of telephones only if it was built with their libraries


def check_layout(listing: Listing) -> Iterator[Finding]:
    """Images and folders in unusual places, and files that training leaves out."""
    for folder in listing.class_folders.values():
        classes = visible_folders(folder)
        if classes:
            yield from _images_beside_classes(folder)
            yield from _classes_named_like_splits(classes)
            yield from _splits_inside_classes(folder, classes)
    yield from _files_left_out(listing.left_out)


def _images_beside_classes(folder: Path) -> Iterator[Finding]:
    loose = tuple(f"{folder.name}/{name}" for name in loose_images(folder))
    if loose:
        message = f"images beside the class folders (training leaves them out): {len(loose)}"
        yield Finding("warning", "layout", message, loose)


def _classes_named_like_splits(classes: tuple[str, ...]) -> Iterator[Finding]:
    named = [name for name in classes if name.lower() in SPLIT_NAMES]
    if named:
        message = f"the folders {', '.join(named)} are used as classes, but have the usual names of splits"
        yield Finding("warning", "layout", message)


def _splits_inside_classes(folder: Path, classes: tuple[str, ...]) -> Iterator[Finding]:
    inside = [f"{name}/{split}" for name in classes for split in SPLIT_NAMES if is_folder(folder / name / split)]
    if inside and len(classes) > 1:
        message = f"class folders that hold folders with the usual names of splits: {len(inside)}; the images in them "
        message += "are used together; splits must be outside, train/<class>/"
        yield Finding("warning", "layout", message, tuple(inside))


def _files_left_out(paths: tuple[str, ...]) -> Iterator[Finding]:
    readable = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN} | _PHONES
    pictures = tuple(path for path in paths if Path(path).suffix.lower() in readable)
    taken = set(pictures)
    others = tuple(path for path in paths if path not in taken)
    if pictures:
        message = f"images of a kind that training leaves out: {len(pictures)}; convert them to PNG or JPEG"
        yield Finding("warning", "other files", message, pictures)
    if others:
        message = f"files that training leaves out, because their names are not those of images: {len(others)}"
        yield Finding("note", "other files", message, others)
