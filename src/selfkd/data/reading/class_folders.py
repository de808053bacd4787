"""Image files sorted into one folder per class, as torchvision's ImageFolder understands them."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from torchvision.datasets.folder import is_image_file

from selfkd.data.wording import few
from selfkd.errors import DataError, OptionError

__all__ = [
    "check_listed_once",
    "check_same_classes",
    "class_folders",
    "files_below",
    "images_below",
    "labelled_files",
    "root_folder",
    "visible_folders",
]

_MOST_OTHERS = 1_000_000
"""Files and folders that are no images, more than which a data set has only beside as many images."""
_OF_THE_SYSTEM = ("/proc", "/sys")
"""Folders that the kernel makes up; links in them lead round the whole machine."""
_GONE = (FileNotFoundError, ProcessLookupError)
"""What listing a folder raises that went meanwhile, as those below /proc do when a process ends: it holds nothing."""


def root_folder(root: str | None, holds: str, advice: str = "") -> Path:
    """The folder of a data set.

    Args:
        root: the option `data.root`.
        holds: what the folder must hold, in words.
        advice: ends the error, if there is no such folder.
    Raises:
        OptionError: if none was given.
        DataError: if there is no such folder.
    """
    if root is None:
        raise OptionError("data.root", None, f"the folder that holds {holds}")
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise DataError(f"data.root={str(folder)!r} is not a folder{advice}")
    return folder


def class_folders(folder: Path) -> tuple[str, ...]:
    """The names of the class folders, sorted; their order is that of the labels.

    Raises: DataError: if the folder does not exist or holds no folder.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is missing; data.root must name the folder that holds it")
    names = visible_folders(folder)
    if not names:
        raise DataError(f"{folder} holds no folder; images must be sorted into one folder per class")
    return names


def visible_folders(folder: Path) -> tuple[str, ...]:
    """The names of the folders in a folder, sorted, without the hidden ones that programs leave; none if it is none.

    Raises: DataError: if it must not be read.
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


def labelled_files(folder: Path, classes: Sequence[str]) -> list[tuple[str, int]]:
    """Paths of all image files below the class folders, with their labels; by class, then by name, as torchvision's
    ImageFolder has them.

    Raises: DataError: if a class has no image, a folder must not be read, or is linked to one above it.
    """
    files: list[tuple[str, int]] = []
    label_of = {folder / name: label for label, name in enumerate(classes)}
    for class_folder, path in files_below(label_of):
        if is_image_file(path):
            files.append((path, label_of[class_folder]))
    filled = {label for _, label in files}
    empty = [name for label, name in enumerate(classes) if label not in filled]
    if empty:
        raise DataError(f"{folder} has no image file for the classes {few(empty)}; fill their folders or delete them")
    return files


def files_below(
    folders: Iterable[Path], problems: list[tuple[Path, DataError]] | None = None
) -> Iterator[tuple[Path, str]]:
    """Every file below some folders, with that folder; links followed, in the order of torchvision's `make_dataset`.

    Args:
        folders: where to begin. Of each, what lies on other file systems than itself is a problem.
        problems: gets each problem with its folder, and the listing goes on without what has one; without it, the first
            one ends the listing.
    Raises: DataError: if there is far more than images; without `problems` also if a folder must not be read, is linked
        to another one that is listed, or lies on another file system.
    """
    listing = _Listing()
    for folder in folders:
        yield from ((folder, file) for file in listing.files(folder, partial(_report, problems, folder)))


def images_below(folder: Path, report: Callable[[DataError], None]) -> Iterator[str]:
    """Every image file below a folder that is no data set; links followed, ordered as by `files_below`.

    A folder that links show again is listed once, without a word; links may lead to other disks.

    Args:
        folder: where to begin.
        report: gets what is not listed, and may let the listing go on: folders that must not be read, links to a folder
            above, `/proc` and `/sys`, and what comes after a million files and folders that are no images, beside fewer
            images.
    """
    yield from filter(is_image_file, _ImageListing().files(folder, report))


def _report(problems: list[tuple[Path, DataError]] | None, folder: Path, problem: DataError) -> None:
    if problems is None:
        raise problem
    problems.append((folder, problem))


def check_listed_once(*splits: Sequence[tuple[str, int]]) -> None:
    """Refuse a folder that was listed twice, under two classes or in two splits, because one is linked to the other.

    Args:
        splits: paths and labels of each split.
    Raises: DataError: naming the folder by both its paths.
    """
    place_of: dict[str, str] = {}
    for place in dict.fromkeys(path.rpartition(os.sep)[0] for files in splits for path, _ in files):
        other = place_of.setdefault(os.path.realpath(place), place)
        if other != place:
            raise _same_folder(place, other)


def _same_folder(place: str, other: str) -> DataError:
    return DataError(
        f"{place} and {other} are the same folder, by a link; its images would count twice, for several classes or "
        "both to train and to test"
    )


def _closed(error: OSError) -> DataError:
    return DataError(f"{error.filename} cannot be listed: {error.strerror}")


class _Listing:
    """One listing of a data set's folders, which ends whatever it meets: `/proc`, links in a circle, a whole disk."""

    _skips_repeated = False  # else a folder that is reached again is a problem

    def __init__(self) -> None:
        self._place_of: dict[str, str] = {}  # real path to the path by which it was listed
        self._images = 0
        self._others = 0

    def files(self, folder: Path, report: Callable[[DataError], None]) -> Iterator[str]:
        """Every file from this folder down."""
        for place, names in sorted(self._walk(folder, report)):
            yield from (f"{place}{os.sep}{name}" for name in sorted(names))

    def _walk(self, folder: Path, report: Callable[[DataError], None]) -> Iterator[tuple[str, list[str]]]:
        """Every folder from this one down, with the names of its files."""
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
            inner.sort()  # so that of two ways to a folder always the same is taken
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
        """Why a folder is not listed, or None."""
        other = self._place_of.get(real)
        if real in above or (other is not None and Path(other) in Path(place).parents):
            return DataError(f"{place} is linked to {real}, a folder above it; listing it would never end")
        if other is not None:
            return _same_folder(place, other)
        self._place_of[real] = place
        try:
            return self._elsewhere(place, real, folder, Path(place).stat().st_dev != file_system)
        except OSError as error:  # gone meanwhile
            return _closed(error)

    def _elsewhere(self, place: str, real: str, folder: Path, other_file_system: bool) -> DataError | None:
        """Why a folder is not listed because of where it lies, or None."""
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
            f"{folder} holds more than {_MOST_OTHERS:,} files and folders that are no images, beside "
            f"{self._images:,} images; listing stops there; {advice}"
        )


class _ImageListing(_Listing):
    """A listing of a folder that is no data set, in which nothing is labelled twice by being reached twice."""

    _skips_repeated = True

    def _elsewhere(self, place: str, real: str, folder: Path, other_file_system: bool) -> DataError | None:
        if not any(Path(real).is_relative_to(system) for system in _OF_THE_SYSTEM):
            return None
        return DataError(f"{place} is not listed: {' and '.join(_OF_THE_SYSTEM)} hold no files of a disk")

    def _stop(self, folder: Path, report: Callable[[DataError], None]) -> None:
        report(self._far_more_than_images(folder, "the images found so far are taken; name smaller folders"))


def check_same_classes(train: Collection[str], test: Collection[str], folder: Path) -> None:
    """Refuse a test split of other classes than the training split.

    Args:
        train: classes of the training split.
        test: classes of the test split.
        folder: where the test split lies.
    Raises: DataError: naming the classes that only one split has.
    """
    missing, unknown = sorted(set(train) - set(test)), sorted(set(test) - set(train))
    if missing or unknown:
        raise DataError(
            f"{folder} has other classes than the training images: "
            f"{few(missing)} only in training, {few(unknown)} only there; both need the same class folders"
        )
