"""Encoded images and labels in Arrow tables with the Hugging Face Hub's columns, wherever the tables come from."""

from __future__ import annotations

import io
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from PIL import Image

from selfkd.data.decoding import read_rgb
from selfkd.errors import DataError, OptionError

__all__ = ["BATCH", "Columns", "ImageTable", "Rows", "decoded", "find_columns", "first_image", "image_file"]

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
    features = _features(schema)
    missing = [column for column in (image, label) if column is not None and column not in schema.names]
    if missing:
        needed = " and ".join(repr(column) for column in (image, label) if column is not None)
        raise DataError(f"{table.name} has the columns {schema.names}; {needed} are needed")
    image = image or _only(
        "data.image_column",
        _of_kind(features, "Image") or [field.name for field in schema if _holds_bytes(field.type)],
        table,
    )
    label = label or _only(
        "data.label_column",
        _of_kind(features, "ClassLabel") or [field.name for field in schema if types.is_integer(field.type)],
        table,
    )
    image_type, label_type = schema.field(image).type, schema.field(label).type
    if not _holds_bytes(image_type):
        raise DataError(f"{table.name}: column {image!r} must be a struct with the encoded 'bytes', it is {image_type}")
    if not types.is_integer(label_type):
        raise DataError(f"{table.name}: column {label!r} must hold whole numbers without gaps, it is {label_type}")
    return Columns(image, label, _class_names(features, label))


def first_image(table: ImageTable, columns: Columns) -> Image.Image:
    """The image of the first row.

    Raises: DataError: if there is none or it cannot be read.
    """
    for rows in table.batches([columns.image]):
        for encoded in rows.batch.column(columns.image)[:1].to_pylist():
            return decoded(table, encoded, f"{rows.name}, row {rows.first}")
    raise DataError(f"{table.name} holds no image")


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
    path = table.path_of(stored) if stored else None
    if path is None:
        raise OSError("it has no bytes" + (f", and its path {stored!r} is not followed" if stored else ""))
    return path


def _features(schema: Any) -> Mapping[str, Any]:
    """What the Hub's metadata say of the columns; empty where they are absent or of another form."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}


def _of_kind(features: Mapping[str, Any], kind: str) -> list[str]:
    return [name for name, feature in features.items() if isinstance(feature, dict) and feature.get("_type") == kind]


def _holds_bytes(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_struct(kind) and kind.get_field_index("bytes") >= 0)


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


def _class_names(features: Mapping[str, Any], label: str) -> tuple[str, ...] | None:
    feature = features.get(label)
    names = feature.get("names") if isinstance(feature, dict) else None
    return tuple(map(str, names)) if isinstance(names, list) else None
