"""Encoded images and labels in Arrow tables with the Hugging Face Hub's columns, wherever the tables come from."""

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

from selfkd.data.reading.decoding import read_rgb
from selfkd.errors import DataError, OptionError

__all__ = [
    "BATCH",
    "Columns",
    "ImageTable",
    "Rows",
    "decoded",
    "encoded_images",
    "find_columns",
    "first_image",
    "image_file",
]

BATCH = 256
"""Rows that are decoded at a time; more would hold more encoded images in memory, and gain nothing."""


class Rows(NamedTuple):
    """Consecutive rows as `pyarrow.RecordBatch` or `Table`; `first` is the number of the first one in `name`."""

    name: str
    first: int
    batch: Any


class ImageTable(ABC):
    """Rows of encoded images and labels.

    Attributes:
        name: how errors call the table.
        schema: its `pyarrow.Schema`; the Hub's metadata, if there are any, tell images, labels and class names.
    """

    name: str
    schema: Any

    @abstractmethod
    def __len__(self) -> int:
        """How many rows there are."""

    @abstractmethod
    def batches(self, columns: Sequence[str]) -> Iterator[Rows]:
        """All rows of these columns, in their order, `BATCH` at a time.

        Raises: DataError: if they cannot be read.
        """

    def path_of(self, stored: str) -> Path | None:
        """The file of an image that is stored as a path; None if that is not to be followed."""
        return None


@dataclass(frozen=True)
class Columns:
    """Where images and labels stand.

    Args:
        image: column of structs with the encoded `bytes`.
        label: column of whole numbers.
        class_names: K names in label order, or None where the metadata do not give them.
    """

    image: str
    label: str
    class_names: tuple[str, ...] | None


def find_columns(table: ImageTable, image: str | None, label: str | None) -> Columns:
    """The columns given, and those found for what is not given.

    Args:
        table: is looked at.
        image: the option `data.image_column`; None for the only one that holds images.
        label: the option `data.label_column`; None for the only one that holds classes, or the one called label.
    Raises:
        OptionError: if a column is neither given nor to be found.
        DataError: if a given one is missing, or holds something else.
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
        raise DataError(f"{table.name}: column {label!r} must hold whole numbers without gaps, it is {label_type}")
    return Columns(image, label, _class_names(features, label, table))


def first_image(table: ImageTable, columns: Columns) -> Image.Image:
    """The image of the first row.

    Raises: DataError: if there is none or it cannot be read.
    """
    for rows in table.batches([columns.image]):
        if len(rows.batch):
            (encoded,) = encoded_images(rows, columns, np.zeros(1, np.int64))
            return decoded(table, encoded, f"{rows.name}, row {rows.first}")
    raise DataError(f"{table.name} holds no image")


def encoded_images(
    rows: Rows, columns: Columns, positions: NDArray[np.int64] | None = None
) -> list[dict[str, Any] | None]:
    """The structs of some rows, or of all, with their encoded `bytes`.

    Raises: DataError: if they hold text that is none.
    """
    column = rows.batch.column(columns.image)
    try:
        structs: list[dict[str, Any] | None] = (column if positions is None else column.take(positions)).to_pylist()
    except ValueError as error:  # a path that is no UTF-8
        last = rows.first + len(rows.batch) - 1
        raise DataError(f"{rows.name}, rows {rows.first} to {last}: column {columns.image!r}: {error}") from error
    return structs


def decoded(table: ImageTable, encoded: Mapping[str, Any] | None, where: str) -> Image.Image:
    """An image of a table in RGB.

    Args:
        table: holds it.
        encoded: the struct in its column.
        where: how the error names the row.
    Raises: DataError: if it cannot be read.
    """
    try:
        file = image_file(table, encoded)
    except OSError as error:
        raise DataError(f"{where}: not a readable image: {error}") from error
    return read_rgb(file, f"{where}, {file}" if isinstance(file, Path) else where)


def image_file(table: ImageTable, encoded: Mapping[str, Any] | None) -> Path | BinaryIO:
    """What an image of a table is to be opened from.

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
    """What the Hub's metadata say of the columns; empty where they are absent or of another form.

    Raises: DataError: if they are nested so deeply that they cannot be read.
    """
    try:
        features = json.loads((table.schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    except RecursionError as error:
        raise DataError(f"{table.name}: its Hugging Face metadata are nested too deeply to be read") from error
    return features if isinstance(features, dict) else {}


def _of_kind(features: Mapping[str, Any], kind: str, table: ImageTable) -> list[str]:
    """The columns that the Hub's metadata say to be of a kind.

    Raises: DataError: if none of them is there.
    """
    named = [name for name, feature in features.items() if isinstance(feature, dict) and feature.get("_type") == kind]
    there = [name for name in named if name in table.schema.names]
    if named and not there:
        option = "data.image_column" if kind == "Image" else "data.label_column"
        raise DataError(
            f"{table.name}: its Hugging Face metadata name a column {named[0]!r} of kind {kind}, which is not there; "
            f"its columns are {', '.join(table.schema.names)}; {option} can name one of them"
        )
    return there


def _holds_bytes(kind: Any) -> bool:
    from pyarrow import types

    position = kind.get_field_index("bytes") if types.is_struct(kind) else -1
    if position < 0:  # it has none, or several
        return False
    inner = kind.field(position).type
    # Where all images are files, of which tables hold the paths, a column without any bytes has no type.
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
        raise DataError(f"{table.name}: its Hugging Face metadata give column {label!r} class names that are no texts")
    return tuple(map(str, names))
