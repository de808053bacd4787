"""Listings of image files in class folders, and what such folders look like when they are the wrong ones."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from torchvision.datasets.folder import is_image_file

from selfkd.data.doctor.findings import Finding
from selfkd.data.doctor.listing import Listing, Specimen
from selfkd.data.reading.class_folders import check_listed_once, files_below, root_folder, visible_folders
from selfkd.data.reading.decoding import open_image
from selfkd.data.sources.base import Source
from selfkd.data.sources.folder import Folder
from selfkd.data.sources.imagenet import ImageNet
from selfkd.data.sources.split_names import SPLIT_NAMES, TRAIN_NAMES, SplitNames
from selfkd.data.sources.tiny_imagenet import TinyImageNet, class_words, validation_files
from selfkd.errors import DataError

__all__ = ["list_folder", "list_imagenet", "list_tiny_imagenet"]

_ALL = "all images"
_PHONES = {".heic", ".heif", ".avif"}  # of telephones; whether PIL reads them depends on how it was built
_Files = Sequence[tuple[str, int]]  # path and label


def list_folder(source: Source, seed: int) -> Listing:
    """Anyone's class folders, with or without splits.

    Raises: OptionError: if a split that was asked for is not there.
    """
    assert isinstance(source, Folder)
    root = root_folder(source.root, "one folder of images per class, or train/<class>/ and test/<class>/")
    roles = source.split_names(root)
    if roles is None:
        return _listed(root, SplitNames(_ALL, None, None), {_ALL: root})
    return _listed(root, roles, {name: root / name for name in roles.used})


def list_imagenet(source: Source, seed: int) -> Listing:
    """`train/<class>/*` and `val/<class>/*`."""
    assert isinstance(source, ImageNet)
    root = root_folder(source.root, "ImageNet's train/<class>/ and val/<class>/")
    return _listed(root, SplitNames("train", "val", None), {name: root / name for name in ("train", "val")})


def list_tiny_imagenet(source: Source, seed: int) -> Listing:
    """Tiny-ImageNet in either layout of its validation images."""
    assert isinstance(source, TinyImageNet)
    root = root_folder(source.root, "Tiny-ImageNet's train/ and val/")
    classes, files, findings = _walked(root, {"train": root / "train"})
    try:
        files["val"] = validation_files(root / "val", classes)
    except DataError as error:
        findings.append(Finding("error", "layout", str(error)))
    return _listing(root, SplitNames("train", "val", None), class_words(root, classes), files, findings)


def _listed(root: Path, roles: SplitNames, folders: Mapping[str, Path]) -> Listing:
    classes, files, findings = _walked(root, folders)
    return _listing(root, roles, classes, files, findings)


def _listing(
    root: Path, roles: SplitNames, classes: tuple[str, ...], files: Mapping[str, _Files], findings: list[Finding]
) -> Listing:
    def specimens() -> Iterator[Specimen]:
        for split, its_files in files.items():
            for path, label in its_files:
                yield Specimen(os.path.relpath(path, root), split, label, partial(open_image, Path(path)))

    counts = {
        split: np.bincount([label for _, label in its_files], minlength=len(classes)).astype(np.int64)
        if its_files
        else np.zeros(len(classes), np.int64)
        for split, its_files in files.items()
    }
    return Listing(classes, roles, counts, specimens, (*findings, *_linked(files)))


def _walked(
    root: Path, folders: Mapping[str, Path]
) -> tuple[tuple[str, ...], dict[str, list[tuple[str, int]]], list[Finding]]:
    """The classes, the image files of each split, and what is wrong with the folders.

    Args:
        root: of the data set.
        folders: of each split, by its name; the first one has the classes.
    """
    findings: list[Finding] = []
    files: dict[str, list[tuple[str, int]]] = {}
    classes: tuple[str, ...] | None = None
    for split, folder in folders.items():
        names = visible_folders(folder)
        findings += _wrong_layout(root, split, folder, names)
        if classes is None:
            classes = names
        elif names and classes:
            findings += _other_classes(split, classes, names)
        label_of = {name: label for label, name in enumerate(classes)}
        files[split] = []
        left_out: list[str] = []
        problems: list[tuple[Path, DataError]] = []
        for class_folder, path in files_below([folder / name for name in names], problems):
            if not is_image_file(path):
                left_out.append(os.path.relpath(path, root))
            elif class_folder.name in label_of:
                files[split].append((path, label_of[class_folder.name]))
        if problems:
            message = f"folders that are not listed: {len(problems)}"
            findings.append(Finding("error", "layout", message, tuple(str(problem) for _, problem in problems)))
        unlisted = {class_folder.name for class_folder, _ in problems}
        findings += _empty(split, [name for name in names if name not in unlisted], files[split], classes)
        findings += _left_out(left_out)
    return classes or (), files, findings


def _linked(files: Mapping[str, _Files]) -> Iterator[Finding]:
    """Class folders or splits that are one, by a link."""
    try:
        check_listed_once(*files.values())
    except DataError as error:
        yield Finding("error", "layout", str(error))


def _wrong_layout(root: Path, split: str, folder: Path, names: tuple[str, ...]) -> Iterator[Finding]:
    """What a folder without classes in it looks like, and what to do."""
    if not folder.is_dir():
        yield Finding("error", "layout", f"{folder} is missing; data.root must name the folder that holds it")
        return
    held = str(folder) if split == _ALL else split
    loose = [entry.name for entry in sorted(folder.iterdir()) if entry.is_file() and is_image_file(entry.name)]
    shown = tuple(os.path.relpath(folder / name, root) for name in loose)
    if not names:
        message = f"{held} holds no folder; images must be sorted into one folder per class, {held}/<class>/"
        if loose:
            origin = "" if split.lower() in TRAIN_NAMES else ", as ImageNet's validation archive unpacks"
            hint = "; if they are one class of the data set, data.root must name the folder above"
            message = (
                f"{held} holds {len(loose)} images beside each other{origin}; nobody knows their classes until they "
                f"are sorted into {held}/<class>/{hint if split == _ALL else ''}"
            )
        yield Finding("error", "layout", message, shown)
        return
    if loose:
        yield Finding("warning", "layout", f"images beside the class folders, which are left out: {len(loose)}", shown)
    if names == ("images",):
        table = " (val_annotations.txt has them)" if (folder / "val_annotations.txt").exists() else ""
        yield Finding(
            "error",
            "layout",
            f"{held} holds one folder, images, as Tiny-ImageNet's validation images lie in their archive; their "
            f"classes are not told by folders{table}: data=tiny_imagenet reads the whole archive, or sort them into "
            f"{held}/<class>/",
        )
    elif len(names) == 1:
        inner = visible_folders(folder / names[0])
        hint = f"; if {folder / names[0]} is the data set, data.root must name that" if inner else ""
        yield Finding("error", "layout", f"{held} holds a single class, {names[0]}; at least two are needed{hint}")
    nested = [name for name in names if name.lower() in SPLIT_NAMES]
    if nested:
        yield Finding(
            "warning", "layout", f"the folders {', '.join(nested)} are taken for classes, though splits are called so"
        )
    # Unlike Path.is_dir, os.path.isdir is False where it must not look.
    inside = [f"{name}/{inner}" for name in names for inner in SPLIT_NAMES if os.path.isdir(folder / name / inner)]  # noqa: PTH112
    if inside and len(names) > 1:
        message = f"class folders hold folders called like splits: {len(inside)}; their images are taken together; "
        yield Finding("warning", "layout", message + "splits must lie outside, train/<class>/", tuple(inside))


def _other_classes(split: str, train: Collection[str], names: Collection[str]) -> Iterator[Finding]:
    """Classes that only one of the splits has; torchvision would give the same label to different classes."""
    if names == ("images",):
        return
    missing, unknown = sorted(set(train) - set(names)), sorted(set(names) - set(train))
    if not missing and not unknown:
        return
    alike = {name.casefold().strip() for name in missing} & {name.casefold().strip() for name in unknown}
    hint = "; some differ only in capitals or spaces" if alike else ""
    yield Finding(
        "error",
        "classes",
        f"{split} has other classes than the training images: {len(missing)} only in training, {len(unknown)} only in "
        f"{split}; both need the same class folders{hint}",
        (*(f"{name} (only in training)" for name in missing), *(f"{name} (only in {split})" for name in unknown)),
    )


def _empty(split: str, names: Collection[str], files: _Files, classes: Sequence[str]) -> Iterator[Finding]:
    filled = {classes[label] for _, label in files}
    empty = [name for name in names if name not in filled and name in classes]
    if empty:
        message = f"class folders without an image file: {len(empty)}; fill them or delete them"
        yield Finding("error", "empty classes", message, tuple(_under(split, name) for name in empty))


def _left_out(paths: Sequence[str]) -> Iterator[Finding]:
    readable = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN} | _PHONES
    pictures = tuple(path for path in paths if Path(path).suffix.lower() in readable)
    taken = set(pictures)
    others = tuple(path for path in paths if path not in taken)
    if pictures:
        message = f"images of a kind that training leaves out: {len(pictures)}; convert them to PNG or JPEG"
        yield Finding("warning", "other files", message, pictures)
    if others:
        message = f"files that are no images by their names and are left out: {len(others)}"
        yield Finding("note", "other files", message, others)


def _under(split: str, name: str) -> str:
    return name if split == _ALL else f"{split}/{name}"
