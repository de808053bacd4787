"""CSV files of image paths and labels."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image
from torch import Tensor

from selfkd.data.listing import Listing, Problem, SplitNames
from selfkd.data.reading.image_files import ImageFiles
from selfkd.data.reading.regular_files import regular_status
from selfkd.errors import DataError, OptionError, few

__all__ = ["CsvRow", "CsvTable", "list_csv", "read_csv", "read_known_classes"]

_PATHS = ("path", "file", "filename", "file_name", "filepath", "image", "image_path")
_LABELS = ("label", "class", "class_name", "category", "target")
_SPLIT = "split"
_IMAGE_ROOT = "data.image_root names their folder"
_DELIMITERS = ",;\t"


class CsvRow(NamedTuple):
    """A row: the path of an image, its label, its split ("" without such a column), and the line in which it begins."""

    path: str
    label: str
    split: str
    line: int


@dataclass(frozen=True)
class CsvTable:
    """The rows of a CSV file.

    Args:
        file: the file.
        columns: the names in its first line.
        has_splits: whether it has the column `split`.
        rows: all rows that can be used.
        problems: what is wrong with the others.
    """

    file: Path
    columns: tuple[str, ...]
    has_splits: bool
    rows: tuple[CsvRow, ...]
    problems: tuple[Problem, ...]

    @property
    def splits(self) -> set[str]:
        """The names of its splits; empty without the column."""
        return {row.split for row in self.rows} if self.has_splits else set()


def read_csv(file: Path, path_column: str | None, label_column: str | None) -> CsvTable:
    """Read a CSV file in UTF-8, whose first line names its columns, separated by commas, semicolons or tabs.

    Args:
        file: the file.
        path_column: name of the column of paths; None for the first one with a usual name.
        label_column: name of the column of labels; None for the first one with a usual name.
    Raises:
        DataError: if the file is missing, empty or no such text, or no column has a usual name.
        OptionError: if there is no column of a given name, or there are two.
    """
    text = _text(file)
    delimiter = max(_DELIMITERS, key=text.partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    records = _records(reader, file)
    _, header = next(records, (1, []))
    if not header:
        raise DataError(f"{file} is empty; its first line must name the columns, for example path,label")
    columns = tuple(header)
    path = _position("data.path_column", path_column, _PATHS, columns, file)
    label = _position("data.label_column", label_column, _LABELS, columns, file)
    others = (at for at, name in enumerate(columns) if name.lower() == _SPLIT and at not in (path, label))
    split = next(others, None)
    rows, faults = _rows(records, len(columns), path, label, split)
    if not rows and not faults:
        raise DataError(f"{file} has no rows below its first line")
    problems = [Problem("rows", f"rows of {file} that cannot be used: {len(faults)}", tuple(faults))] if faults else []
    return CsvTable(file, columns, split is not None, tuple(rows), tuple(problems))


def list_csv(
    table: CsvTable, names: SplitNames, root: Path, transform: Callable[[Image.Image], Tensor], side: int
) -> Listing:
    """The images of a table. Labels are positions in the sorted class names. No image is opened.

    Args:
        table: the table.
        names: which split trains, tests and chooses the best epoch; all rows train if the table has no splits.
        root: the folder that paths are relative to.
        transform: from a decoded image to the uint8 `[3, S, S]` on which a network is evaluated.
        side: S, in pixels.
    """
    used = [row for row in table.rows if not table.has_splits or row.split in names.used]
    class_names = tuple(sorted({row.label for row in used}))
    label_of = {name: label for label, name in enumerate(class_names)}
    splits = {}
    for split in names.used:
        rows = [row for row in used if not table.has_splits or row.split == split]
        samples = [(str(root / row.path), label_of[row.label]) for row in rows]
        splits[split] = ImageFiles.of(root, samples, transform, side)
    problems = (*table.problems, *_file_problems(table.file, used, root, _IMAGE_ROOT))
    return Listing(class_names, names, splits, problems)


def read_known_classes(
    table: CsvTable,
    split: str | None,
    class_names: Sequence[str],
    transform: Callable[[Image.Image], Tensor],
    side: int,
    image_root: Path | None = None,
) -> ImageFiles:
    """The images of a table, labelled by the classes of a trained network. A class may have no image.

    Args:
        table: the table.
        split: the only split to read; None for all rows.
        class_names: K names in label order.
        transform: from a decoded image to the uint8 `[3, S, S]` on which a network is evaluated.
        side: S, in pixels.
        image_root: the folder that paths are relative to, `data.image_root` of the run; None for the table's folder.
    Raises: DataError: if a row cannot be used, or its label is no class.
    """
    rows = [row for row in table.rows if split is None or row.split == split]
    label_of = {name: label for label, name in enumerate(class_names)}
    unknown = [f"line {row.line}: {row.label!r}" for row in rows if row.label not in label_of]
    root = table.file.parent if image_root is None else image_root
    advice = "they are relative to the folder of the CSV file" if image_root is None else _IMAGE_ROOT
    problems = [*table.problems, *_file_problems(table.file, rows, root, advice)]
    if unknown:
        message = f"{table.file} has labels that are no class of the run; the run's classes are {few(class_names)}"
        problems.append(Problem("labels", message, tuple(unknown)))
    for problem in problems:
        raise problem.error()
    return ImageFiles.of(root, [(str(root / row.path), label_of[row.label]) for row in rows], transform, side)


def _text(file: Path) -> str:
    """The text of a file in UTF-8.

    Raises: DataError: if it is missing or no such text; with the line.
    """
    try:
        regular_status(file)
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error}") from error
    try:
        return content.decode("utf-8-sig")  # spreadsheets begin it with a mark
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{file}, line {line}: not text in UTF-8; save the file as CSV in UTF-8") from error


def _position(option: str, name: str | None, usual: Sequence[str], columns: Sequence[str], file: Path) -> int:
    """The position of a column.

    Raises:
        DataError: if `name` is None and no column has a usual name.
        OptionError: if there is no such column, or two; it lists the columns.
    """
    listed = ", ".join(map(repr, columns))
    if name is None:
        lower = [column.lower() for column in columns]
        name = next((columns[lower.index(each)] for each in usual if each in lower), None)
        if name is None:
            raise DataError(
                f"the first line of {file} must name the columns, but none of {listed} is one of {', '.join(usual)}. "
                f"If the file begins with an image, add a first line such as path,label; otherwise rename the column, "
                f"or name it in training with {option}=..."
            )
    if columns.count(name) != 1:
        often = "twice" if name in columns else "not at all"
        reason = f"the first line of {file} has this column {often}; its columns are {listed}"
        raise OptionError(option, name, reason=reason)
    return columns.index(name)


def _records(reader: Any, file: Path) -> Iterator[tuple[int, list[str]]]:
    """The fields of every row, without spaces around them, and the line in which it begins. Empty lines are left out.

    Args:
        reader: a `csv.reader`.
        file: the file, for the error.
    Raises: DataError: with the line, if a row is not CSV.
    """
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{file}, line {line}: not readable as CSV: {error}") from error
        if fields is None:
            return
        if fields:
            yield line, [field.strip() for field in fields]


def _rows(
    numbered: Iterable[tuple[int, list[str]]], width: int, path: int, label: int, split: int | None
) -> tuple[list[CsvRow], list[str]]:
    """The rows, and what is wrong with those that cannot be used.

    Args:
        numbered: the line in which each row begins, and its fields.
        width: the number of columns.
        path, label, split: positions of the columns.
    """
    rows: list[CsvRow] = []
    faults: list[str] = []
    for line, fields in numbered:
        fault = _fault(fields, width, path, label, split)
        if fault is None:
            rows.append(CsvRow(fields[path], fields[label], "" if split is None else fields[split], line))
        else:
            faults.append(f"line {line}: {fault}")
    return rows, faults


def _fault(fields: Sequence[str], width: int, path: int, label: int, split: int | None) -> str | None:
    if len(fields) != width:
        return f"number of fields: {len(fields)} instead of {width}"
    named = {"path": path, "label": label, "split": split}
    empty = [name for name, at in named.items() if at is not None and not fields[at]]
    return f"no {' and no '.join(empty)}" if empty else None


def _file_problems(file: Path, rows: Collection[CsvRow], root: Path, advice: str) -> Iterator[Problem]:
    """Files that are missing, with advice about their paths, and images with two labels."""
    missing = [f"line {row.line}: {row.path}" for row in rows if not _exists(root / row.path)]
    if missing:
        message = f"image files of {file} that are not in {root}: {len(missing)}; {advice}"
        yield Problem("missing files", message, tuple(missing))
    first: dict[str, CsvRow] = {}
    for_two = []
    for row in rows:
        other = first.setdefault(os.path.normpath(root / row.path), row)
        if other.label != row.label:
            for_two.append(f"lines {other.line} and {row.line}: {row.path} is {other.label!r} and {row.label!r}")
    if for_two:
        message = f"images of {file} with two labels: {len(for_two)}; remove the wrong rows"
        yield Problem("labels", message, tuple(for_two))


def _exists(path: Path) -> bool:
    try:
        regular_status(path)
    except (OSError, ValueError):  # a null byte
        return False
    return True
