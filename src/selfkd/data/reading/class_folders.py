"""Image files in one folder per class, as torchvision's ImageFolder understands them."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor
from torchvision.datasets.folder import is_image_file

from selfkd.data.listing import Listing, Problem, SplitNames
from selfkd.data.reading.image_files import ImageFiles
from selfkd.data.splits import Split
from selfkd.errors import DataError, OptionError, few
from selfkd.given_paths import csv_or_folder

__all__ = [
    "UNSORTED",
    "class_problems",
    "files_below",
    "images_below",
    "link_problems",
    "list_class_folders",
    "list_known_classes",
    "loose_images",
    "root_folder",
    "visible_folders",
]

_MOST_OTHERS = 1_000_000
"""A data set may hold more files and folders than this that are no images only if it holds as many images."""
_OF_THE_SYSTEM = ("/proc", "/sys")
"""Folders that the kernel makes up; their links lead to all of the machine."""
UNSORTED = "images"
"""Name of the folder in which Tiny-ImageNet's archive has its validation images, of all classes."""
_GONE = (FileNotFoundError, ProcessLookupError)
"""Errors of listing a folder that has just been deleted, as happens below /proc. Such a folder holds nothing."""


def root_folder(root: str | None, holds: str, advice: str = "") -> Path:
    """The folder of a data set.

    Args:
        root: the option `data.root`.
        holds: what the folder must hold, in words.
        advice: the end of the error if the folder does not exist.
    Raises:
        OptionError: if `root` is None.
        DataError: if the folder does not exist.
    """
    if root is None:
        raise OptionError("data.root", None, f"the folder that holds {holds}")
    folder = Path(root).expanduser()
    if not folder.is_dir():
        if csv_or_folder(root) is not None:
            advice = f"; for this CSV file of paths and labels, write data=csv data.root={root}"
        raise DataError(f"data.root={str(folder)!r} is not a folder{advice}")
    return folder


def visible_folders(folder: Path) -> tuple[str, ...]:
    """The sorted names of the folders in a folder, without hidden ones; empty if it is no folder.

    Raises: DataError: if the folder must not be read.
    """
    if not folder.is_dir():
        return ()
    try:
        with os.scandir(folder) as entries:
            return tuple(sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")))
    except _GONE:
        return ()
    except OSError as error:
        raise _closed(error) from error


def loose_images(folder: Path) -> list[str]:
    """The sorted names of the image files in a folder itself."""
    return sorted(entry.name for entry in folder.iterdir() if is_image_file(entry.name) and entry.is_file())


def list_class_folders(
    root: Path,
    names: SplitNames,
    folders: Mapping[str, Path],
    transform: Callable[[Image.Image], Tensor],
    side: int,
    ignored: Collection[str] = (),
) -> Listing:
    """Every image file below the class folders of each split: by class, then by name, as in torchvision's ImageFolder.

    Labels are positions in the sorted names of the first split's class folders.

    Args:
        root: folder of the data set; names of files are relative to it.
        names: which split trains and which tests.
        folders: by split, the folder that holds its class folders; the training split comes first.
        transform: from a decoded image to the uint8 `[3, S, S]` on which a network is evaluated.
        side: S, in pixels.
        ignored: names of folders that are no classes.
    Raises: DataError: if there is far more than images, or a folder that holds class folders must not be read.
    """
    classes: tuple[str, ...] | None = None
    splits: dict[str, ImageFiles] = {}
    left_out: list[str] = []
    layout_problems: list[Problem] = []
    file_problems: list[Problem] = []
    for split, folder in folders.items():
        found = tuple(name for name in visible_folders(folder) if name not in ignored)
        layout_problems += _layout_problems(root, folder, found, trains=classes is None)
        if classes is None:
            classes = found
        elif found and classes and found != (UNSORTED,):
            layout_problems += class_problems(str(folder), split, classes, found)
        label_of = {name: label for label, name in enumerate(classes)}
        samples, others, problems = _class_files(root, folder, {name: label_of.get(name) for name in found})
        splits[split] = ImageFiles.of(root, samples, transform, side)
        left_out += others
        file_problems += problems
    return Listing(
        class_names=classes or (),
        names=names,
        splits=splits,
        problems=(*layout_problems, *file_problems, *link_problems(splits.values())),
        class_folders=folders,
        left_out=tuple(left_out),
    )


def list_known_classes(
    folder: Path, class_names: Sequence[str], transform: Callable[[Image.Image], Tensor], side: int
) -> ImageFiles:
    """Every image file below the class folders of a folder, labelled by the classes of a trained network.

    A class may have no folder.

    Args:
        folder: holds one folder per class.
        class_names: K names in label order.
        transform: from a decoded image to the uint8 `[3, S, S]` on which a network is evaluated.
        side: S, in pixels.
    Raises: DataError: if a folder is no class, holds no image or cannot be listed, or if there is no class folder.
    """
    label_of = {name: label for label, name in enumerate(class_names)}
    found = visible_folders(folder)
    if not found:
        raise DataError(f"{folder} holds no folder; images must be sorted into one folder per class, {folder}/<class>/")
    unknown = [name for name in found if name not in label_of]
    if unknown:
        raise DataError(
            f"{folder} holds folders that are no class of the run ({few(unknown)}); the run's classes are "
            f"{few(class_names)}; rename the folders or move them away"
        )
    samples, _, problems = _class_files(folder, folder, {name: label_of[name] for name in found})
    images = ImageFiles.of(folder, samples, transform, side)
    for problem in (*problems, *link_problems([images])):
        raise problem.error()
    return images


def _class_files(
    root: Path, folder: Path, labels: Mapping[str, int | None]
) -> tuple[list[tuple[str, int]], list[str], list[Problem]]:
    """The image files below class folders with their labels, all other files, and what is wrong with the folders.

    Args:
        root: folder of the data set.
        folder: holds the class folders.
        labels: label of each class folder; None for a class that the training split does not have.
    """
    samples: list[tuple[str, int]] = []
    others: list[str] = []
    empty: list[str] = []
    unlisted: list[DataError] = []
    walk = _FolderWalk()
    for name, label in labels.items():
        before = len(samples), len(unlisted)
        for path in walk.files(folder / name, unlisted.append):
            if not is_image_file(path):
                others.append(os.path.relpath(path, root))
            elif label is not None:
                samples.append((path, label))
        if label is not None and (len(samples), len(unlisted)) == before:
            empty.append(os.path.relpath(folder / name, root))
    problems = []
    if unlisted:
        message = f"folders that cannot be used: {len(unlisted)}"
        problems.append(Problem("layout", message, tuple(map(str, unlisted))))
    if empty:
        message = f"class folders without an image file: {len(empty)}; fill them or delete them"
        problems.append(Problem("empty classes", message, tuple(empty)))
    return samples, others, problems


def _layout_problems(root: Path, folder: Path, classes: tuple[str, ...], trains: bool) -> Iterator[Problem]:
    """Why the folders in a folder cannot be classes.

    Args:
        root: folder of the data set.
        folder: folder of a split.
        classes: names of the folders in it.
        trains: whether the split is the training split.
    """
    if not folder.is_dir():
        yield Problem("layout", f"{folder} is missing; data.root must name the folder that holds it")
    elif not classes:
        message = f"{folder} holds no folder; images must be sorted into one folder per class, {folder}/<class>/"
        loose = loose_images(folder)
        if loose:
            message = f"{folder} holds no folder, only image files ({len(loose)}); sort them into {folder}/<class>/"
        if loose and folder == root:
            message += "; if they are one class of the data set, data.root must name the folder above"
        elif loose and not trains:
            message += "; ImageNet's validation archive unpacks like this"
        yield Problem("layout", message, tuple(os.path.relpath(folder / name, root) for name in loose))
    elif classes == (UNSORTED,):
        table = " (val_annotations.txt has them)" if (folder / "val_annotations.txt").exists() else ""
        yield Problem(
            "layout",
            f"{folder} holds one folder, {UNSORTED}, as Tiny-ImageNet's validation images lie in the archive. Folders "
            f"do not tell their classes{table}: use data=tiny_imagenet for the whole archive, or sort the images into "
            f"{folder}/<class>/",
        )
    elif len(classes) == 1:
        inner = folder / classes[0]
        hint = f"; if {inner} is the data set, data.root must name that" if visible_folders(inner) else ""
        yield Problem("layout", f"{folder} holds a single class, {classes[0]}; at least two are needed{hint}")


def class_problems(where: str, split: str, train: Collection[str], other: Collection[str]) -> Iterator[Problem]:
    """Classes that only one of two splits has. torchvision would give the same label to different classes.

    Args:
        where: the folder or file with the classes of the other split.
        split: name of the other split.
        train: classes of the training split.
        other: classes of the other split.
    """
    missing, unknown = sorted(set(train) - set(other)), sorted(set(other) - set(train))
    if not missing and not unknown:
        return
    alike = {name.casefold().strip() for name in missing} & {name.casefold().strip() for name in unknown}
    yield Problem(
        "classes",
        f"{where} has other classes than the training images: {len(missing)} only in training, {len(unknown)} only in "
        f"{split}; both need the same class folders{'; some differ only in capitals or spaces' if alike else ''}",
        (*(f"{name} (only in training)" for name in missing), *(f"{name} (only in {split})" for name in unknown)),
    )


def link_problems(splits: Iterable[Split]) -> Iterator[Problem]:
    """The first folder that was listed twice, in two classes or two splits, because of a link."""
    place_of: dict[str, str] = {}
    files = [split for split in splits if isinstance(split, ImageFiles)]
    for place in dict.fromkeys(folder for split in files for folder in split.folders()):
        other = place_of.setdefault(os.path.realpath(place), place)
        if other != place:
            yield Problem("layout", str(_same_folder(place, other)))
            return


def files_below(folder: Path) -> Iterator[str]:
    """Every file below a folder; links are followed. The order is that of torchvision's `make_dataset`.

    Raises: DataError: if there is far more than images, or a folder must not be read, is a link to another one that is
        listed, or lies on another file system.
    """

    def refuse(problem: DataError) -> None:
        raise problem

    yield from _FolderWalk().files(folder, refuse)


def images_below(folder: Path, report: Callable[[DataError], None]) -> Iterator[str]:
    """Every image file below a folder that is no data set; links are followed. The order is that of `files_below`.

    A folder that a link shows again is listed once, without a message. Links may lead to other disks.

    Args:
        folder: the folder to list.
        report: called with each reason not to list a folder: it must not be read, it is a link to a folder above, or
            it is `/proc` or `/sys`. Also called where the listing stops, after a million files and folders that are no
            images beside fewer images.
    """
    yield from filter(is_image_file, _AnyFolderWalk().files(folder, report))


def _same_folder(place: str, other: str) -> DataError:
    return DataError(
        f"{place} and {other} are the same folder, by a link; its images would count twice, for two classes or in two "
        "splits"
    )


def _closed(error: OSError) -> DataError:
    return DataError(f"{error.filename} cannot be listed: {error.strerror}")


class _FolderWalk:
    """A walk through the folders of a data set. It ends even in `/proc`, in a circle of links, or on a whole disk."""

    _skips_repeated = False  # else a folder that is met again is a problem

    def __init__(self) -> None:
        self._place_of: dict[str, str] = {}  # real path to the path by which it was listed
        self._images = 0
        self._others = 0

    def files(self, folder: Path, report: Callable[[DataError], None]) -> Iterator[str]:
        """Every file in this folder and below."""
        for place, names in sorted(self._walk(folder, report)):
            yield from (f"{place}{os.sep}{name}" for name in sorted(names))

    def _walk(self, folder: Path, report: Callable[[DataError], None]) -> Iterator[tuple[str, list[str]]]:
        """This folder and every folder below, with the names of its files."""
        above = set(map(str, Path(os.path.realpath(folder)).parents))

        def report_closed(error: OSError) -> None:
            if not isinstance(error, _GONE):
                report(_closed(error))

        try:
            file_system = folder.stat().st_dev
        except OSError as error:
            report_closed(error)
            return
        for place, inner, names in os.walk(folder, onerror=report_closed, followlinks=True):
            inner.sort()  # of two ways to a folder, always take the same
            real = os.path.realpath(place)
            if self._skips_repeated and real in self._place_of:
                inner.clear()
                continue
            problem = self._problem(place, real, folder, above, file_system)
            if problem is not None:
                report(problem)
                inner.clear()
                continue
            if self._holds_far_more_than_images(inner, names):
                self._stop(folder, report)
                return
            yield place, names

    def _problem(
        self, place: str, real: str, folder: Path, above: Collection[str], file_system: int
    ) -> DataError | None:
        """The reason not to list a folder, or None."""
        other = self._place_of.get(real)
        if real in above or (other is not None and Path(other) in Path(place).parents):
            return DataError(f"{place} is linked to {real}, a folder above it; listing it would never end")
        if other is not None:
            return _same_folder(place, other)
        self._place_of[real] = place
        try:
            return self._elsewhere(place, real, folder, Path(place).stat().st_dev != file_system)
        except OSError as error:  # it has just been deleted
            return _closed(error)

    def _elsewhere(self, place: str, real: str, folder: Path, other_file_system: bool) -> DataError | None:
        """The reason not to list a folder because of its place, or None."""
        if not other_file_system:
            return None
        return DataError(
            f"{place} lies on another file system than {folder} and is not listed; only {folder} itself may be a link "
            "to another file system"
        )

    def _holds_far_more_than_images(self, inner: Sequence[str], names: Sequence[str]) -> bool:
        images = sum(map(is_image_file, names))
        self._images += images
        self._others += len(inner) + len(names) - images
        return self._others > max(_MOST_OTHERS, self._images)

    def _stop(self, folder: Path, report: Callable[[DataError], None]) -> None:
        raise self._far_more_than_images(folder.parent, "data.root must name a folder that holds the data set alone")

    def _far_more_than_images(self, folder: Path, advice: str) -> DataError:
        return DataError(
            f"{folder} holds more than {_MOST_OTHERS:,} files and folders that are not images, beside "
            f"{self._images:,} images; listing stops there; {advice}"
        )


class _AnyFolderWalk(_FolderWalk):
    """A walk through a folder that is no data set. Its images get no labels, so a folder may be met twice."""

    _skips_repeated = True

    def _elsewhere(self, place: str, real: str, folder: Path, other_file_system: bool) -> DataError | None:
        if not any(Path(real).is_relative_to(system) for system in _OF_THE_SYSTEM):
            return None
        return DataError(f"{place} is not listed: {' and '.join(_OF_THE_SYSTEM)} hold no files of a disk")

    def _stop(self, folder: Path, report: Callable[[DataError], None]) -> None:
        report(self._far_more_than_images(folder, "the images found so far are taken; name smaller folders"))
