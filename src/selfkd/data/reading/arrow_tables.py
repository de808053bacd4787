"""Arrow tables of encoded images and labels, with the columns of the Hugging Face Hub."""

from __future__ import annotations

import io
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from selfkd.data.reading.decoding import open_image, read_rgb
from selfkd.errors import DataError, OptionError

__all__ = [
    "BATCH",
    "Columns",
    "ImageTable",
    "Rows",
    "decoded",
    "encoded_images",
    "find_columns",
    "open_encoded",
]

BATCH = 256
"""Rows that are decoded at a time. More rows would take more memory and save no time."""


class Rows(NamedTuple):
    """Consecutive rows of a table.

    Args:
        name: the file or split that holds them, for people.
        first: number of the first row in `name`.
        batch: `pyarrow.RecordBatch` or `pyarrow.Table`.
    """

    name: str
    first: int
    batch: Any

    def place(self, row: int) -> str:
        """The place of a row of this batch, for people."""
        return f"{self.name}, row {self.first + row}"


class ImageTable(ABC):
    """Rows of encoded images and labels.

    Attributes:
        name: the table's name in errors.
        schema: its `pyarrow.Schema`, perhaps with the Hub's metadata about images, labels and class names.
    """

    name: str
    schema: Any

    @abstractmethod
    def __len__(self) -> int:
        """The number of rows."""

    @abstractmethod
    def batches(self, columns: Sequence[str]) -> Iterator[Rows]:
        """These columns of all rows in their order, `BATCH` rows at a time.

        Raises: DataError: if they cannot be read.
        """

    def path_of(self, stored: str) -> Path | None:
        """The file of an image that is stored as a path; None if the path must not be followed."""
        return None


@dataclass(frozen=True)
class Columns:
    """The columns of images and labels.

    Args:
        image: name of the column of images: structs with the encoded `bytes`.
        label: name of the column of labels: whole numbers.
        class_names: K names in label order, or None if the metadata do not have them.
    """

    image: str
    label: str
    class_names: tuple[str, ...] | None


def find_columns(table: ImageTable, image: str | None, label: str | None) -> Columns:
    """The columns of images and labels in a table.

    Args:
        table: the table.
        image: the option `data.image_column`; None to find the only column of images.
        label: the option `data.label_column`; None to find the only column of classes, or the one called label.
    Raises:
        OptionError: if a column must be given: there are several.
        DataError: if a column is missing, or holds something else.
    """
    from pyarrow import types

    schema = table.schema
    features = _features(table)
    missing = [column for column in (image, label) if column is not None and column not in schema.names]
    if missing:
        needed = " and ".join(repr(column) for column in (image, label) if column is not None)
        raise DataError(f"{table.name} has the columns {schema.names}; {needed} are needed")
    image = image or _only(
        "data.image_column",
        _of_kind(features, "Image", table) or [field.name for field in schema if _holds_bytes(field.type)],
        table,
    )
    _check_single(table, image)
    label = label or _only(
        "data.label_column",
        _of_kind(features, "ClassLabel", table) or [field.name for field in schema if types.is_integer(field.type)],
        table,
    )
    _check_single(table, label)
    image_type, label_type = schema.field(image).type, schema.field(label).type
    if not _holds_bytes(image_type):
        raise DataError(
            f"{table.name}: column {image!r} must be a struct whose 'bytes' are an encoded image (binary); it is "
            f"{image_type}"
        )
    if not types.is_integer(label_type):
        raise DataError(f"{table.name}: column {label!r} must hold whole numbers without gaps; it is {label_type}")
    return Columns(image, label, _class_names(features, label, table))


def encoded_images(rows: Rows, columns: Columns, positions: NDArray[np.int64]) -> list[dict[str, Any] | None]:
    """The structs of some rows, with their encoded `bytes`.

    Raises: DataError: if a path in them is no UTF-8.
    """
    try:
        structs: list[dict[str, Any] | None] = rows.batch.column(columns.image).take(positions).to_pylist()
    except ValueError as error:
        last = rows.first + len(rows.batch) - 1
        raise DataError(f"{rows.name}, rows {rows.first} to {last}: column {columns.image!r}: {error}") from error
    return structs


def decoded(table: ImageTable, encoded: Mapping[str, Any] | None, where: str) -> Image.Image:
    """An image of a table in RGB.

    Args:
        table: holds it.
        encoded: the struct in its column.
        where: the place of the row, for the error.
    Raises: DataError: if it cannot be read.
    """
    try:
        file = _image_file(table, encoded)
    except OSError as error:
        raise DataError(f"{where}: not a readable image: {error}") from error
    return read_rgb(file, f"{where}, {file}" if isinstance(file, Path) else where)


def open_encoded(table: ImageTable, encoded: Mapping[str, Any] | None) -> Image.Image:
    """An image of a table, opened as by `open_image`.

    Raises: UNREADABLE: if it is no image, or missing.
    """
    return open_image(_image_file(table, encoded))


def _image_file(table: ImageTable, encoded: Mapping[str, Any] | None) -> Path | BinaryIO:
    """The path or the bytes of an image of a table.

    Raises: OSError: if it has neither bytes nor a path that may be followed.
    """
    encoded = encoded or {}
    if encoded.get("bytes") is not None:
        return io.BytesIO(encoded["bytes"])
    stored = encoded.get("path")
    path = table.path_of(stored) if isinstance(stored, str) and stored else None
    if path is None:
        raise OSError("it has no bytes" + (f", and its path {stored!r} is not followed" if stored else ""))
    return path


def _features(table: ImageTable) -> Mapping[str, Any]:
    """The Hub's metadata about the columns; empty if there are none, or none in the known form.

    Raises: DataError: if they are nested too deeply to be read.
    """
    try:
        features = json.loads((table.schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    except RecursionError as error:
        raise DataError(f"{table.name}: its Hugging Face metadata are nested too deeply to be read") from error
    return features if isinstance(features, dict) else {}


def _of_kind(features: Mapping[str, Any], kind: str, table: ImageTable) -> list[str]:
    """The columns of a kind, by the Hub's metadata.

    Raises: DataError: if the table has none of the columns that the metadata name.
    """
    named = [name for name, feature in features.items() if isinstance(feature, dict) and feature.get("_type") == kind]
    there = [name for name in named if name in table.schema.names]
    if named and not there:
        option = "data.image_column" if kind == "Image" else "data.label_column"
        raise DataError(
            f"{table.name}: its Hugging Face metadata name a column {named[0]!r} of kind {kind}, "
            "which the table does not have; "
            f"its columns are {', '.join(table.schema.names)}; {option} can name one of them"
        )
    return there


def _holds_bytes(kind: Any) -> bool:
    from pyarrow import types

    position = kind.get_field_index("bytes") if types.is_struct(kind) else -1
    if position < 0:  # it has no such field, or several
        return False
    inner = kind.field(position).type
    # In a table that stores all images as paths, the bytes are all null, and so is their type.
    kinds = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_binary_view, types.is_null)
    return any(is_kind(inner) for is_kind in kinds)


def _check_single(table: ImageTable, column: str) -> None:
    count = table.schema.names.count(column)
    if count > 1:
        raise DataError(f"{table.name} has {count} columns called {column!r}; rename or remove one")


def _only(option: str, candidates: Sequence[str], table: ImageTable) -> str:
    usual = option.removeprefix("data.").removesuffix("_column")  # "image", "label"
    if usual in candidates:
        return usual
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        wanted = "images (structs with encoded bytes)" if usual == "image" else "classes (whole numbers)"
        held = ", ".join(f"{field.name} ({field.type})" for field in table.schema)
        raise DataError(f"{table.name} has no column of {wanted}; its columns are {held}")
    raise OptionError(option, None, f"one of the columns {', '.join(candidates)} of {table.name}")


def _class_names(features: Mapping[str, Any], label: str, table: ImageTable) -> tuple[str, ...] | None:
    feature = features.get(label)
    names = feature.get("names") if isinstance(feature, dict) else None
    if not isinstance(names, list):
        return None
    if not all(isinstance(name, str | int) for name in names):
        raise DataError(f"{table.name}: its Hugging Face metadata give column {label!r} class names that are not text")
    return tuple(map(str, names))
