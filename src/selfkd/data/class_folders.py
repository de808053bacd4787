"""Image files sorted into one folder per class, as torchvision's ImageFolder understands them."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from torchvision.datasets.folder import is_image_file

from selfkd.data.wording import few
from selfkd.errors import DataError, OptionError

__all__ = [
    "check_listed_once",
    "check_same_classes",
    "class_folders",
    "files_below",
    "labelled_files",
    "root_folder",
    "visible_folders",
]


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
    except OSError as error:
        raise _closed(error) from error


def labelled_files(folder: Path, classes: Sequence[str]) -> list[tuple[str, int]]:
    """Paths of all image files below the class folders, with their labels; by class, then by name, as torchvision's
    ImageFolder has them.

    Raises: DataError: if a class has no image, a folder must not be read, or is linked to one above it.
    """
    files: list[tuple[str, int]] = []
    empty: list[str] = []
    for label, name in enumerate(classes):
        before = len(files)
        files += [(path, label) for path in files_below(folder / name) if is_image_file(path)]
        if len(files) == before:
            empty.append(name)
    if empty:
        raise DataError(f"{folder} has no image file for the classes {few(empty)}; fill their folders or delete them")
    return files


def _refused(problem: DataError) -> None:
    raise problem


def files_below(folder: Path, report: Callable[[DataError], None] = _refused) -> Iterator[str]:
    """Every file below a folder, links followed, in the order of torchvision's `make_dataset`.

    Args:
        folder: where to begin.
        report: gets the problems, and may let the listing go on without the folders that have one; by default it ends.
    Raises: DataError: by default, if a folder must not be read, or is linked to one above it.
    """
    for place, names in sorted(_walked(folder, report)):
        yield from (f"{place}{os.sep}{name}" for name in sorted(names))


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
            raise DataError(
                f"{place} and {other} are the same folder, by a link; its images would count twice, for several "
                "classes or both to train and to test"
            )


def _closed(error: OSError) -> DataError:
    return DataError(f"{error.filename} cannot be listed: {error.strerror}")


def _walked(folder: Path, report: Callable[[DataError], None]) -> Iterator[tuple[str, list[str]]]:
    """Every folder from this one down, with the names of its files."""
    outside = set(map(str, Path(os.path.realpath(folder)).parents))
    real_of: dict[str, str] = {}
    for place, inner, names in os.walk(folder, onerror=lambda error: report(_closed(error)), followlinks=True):
        real_of[place] = os.path.realpath(place)
        above = [str(parent) for parent in Path(place).parents if str(parent) in real_of]
        if real_of[place] in outside or real_of[place] in [real_of[parent] for parent in above]:
            report(DataError(f"{place} is linked to {real_of[place]}, a folder above it; listing it would never end"))
            inner.clear()
            continue
        yield place, names


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
