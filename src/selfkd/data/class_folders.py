"""Image files sorted into one folder per class, as torchvision's ImageFolder understands them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

from selfkd.errors import DataError, OptionError

__all__ = ["check_same_classes", "class_folders", "labelled_files", "root_folder", "visible_folders"]

_SHOWN = 5


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
    """The names of the folders in a folder, sorted, without the hidden ones that programs leave; none if it is none."""
    if not folder.is_dir():
        return ()
    return tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")))


def labelled_files(folder: Path, classes: Sequence[str]) -> list[tuple[str, int]]:
    """Paths of all image files below the class folders, with their labels; by class, then by name.

    Raises: DataError: if a class has no image.
    """
    try:
        files: list[tuple[str, int]] = make_dataset(
            str(folder), {name: label for label, name in enumerate(classes)}, IMG_EXTENSIONS
        )
    except FileNotFoundError as error:
        raise DataError(f"{folder}: {error}") from error
    return files


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
            f"{_some(missing)} only in training, {_some(unknown)} only there; both need the same class folders"
        )


def _some(names: Sequence[str]) -> str:
    if len(names) <= _SHOWN:
        return ", ".join(names) or "none"
    return f"{', '.join(names[:_SHOWN])} and {len(names) - _SHOWN} more"
