"""Encoded images and labels in Arrow tables with the Hugging Face Hub's columns, wherever the tables come from."""

from __future__ import annotations

import io
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from selfkd.data.decoding import read_rgb
from selfkd.data.source import ImageSet
from selfkd.errors import DataError, OptionError

__all__ = ["BATCH", "Columns", "ImageTable", "Rows", "find_columns", "first_image", "read_images"]

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
        """The file of an image that is stored as a path; None where paths in a table are not to be followed."""
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


def read_images(
    table: ImageTable, columns: Columns, transform: Callable[[Image.Image], Tensor], side: int, title: str
) -> ImageSet:
    """All images of a table, decoded to RGB and transformed.

    Args:
        table: is read.
        columns: where its images and labels stand.
        transform: from a decoded image to the uint8 `[3, side, side]` on which networks are evaluated.
        side: in pixels.
        title: stands before the progress bar, which only a terminal shows.
    Raises: DataError: naming the row, if an image or label cannot be read.
    """
    images = torch.empty(len(table), 3, side, side, dtype=torch.uint8)
    labels = torch.empty(len(table), dtype=torch.int64)

    def decode(encoded: dict[str, Any] | None, where: str) -> Tensor:
        return transform(_decoded(table, encoded, where))

    done = 0
    with (
        ThreadPoolExecutor() as pool,  # PIL decodes outside the interpreter lock
        tqdm(total=len(table), desc=title, unit="image", disable=None) as bar,
    ):
        for rows in table.batches([columns.image, columns.label]):
            encoded, label = rows.batch.column(columns.image).to_pylist(), rows.batch.column(columns.label)
            if label.null_count:
                raise DataError(
                    f"{rows.name}: column {columns.label!r} must hold whole numbers without gaps, "
                    f"it comes with {label.null_count} empty"
                )
            end = done + len(encoded)
            places = [f"{rows.name}, row {rows.first + row}" for row in range(len(encoded))]
            if encoded:
                images[done:end] = torch.stack(list(pool.map(decode, encoded, places)))
            labels[done:end] = torch.from_numpy(label.to_numpy(zero_copy_only=False).astype(np.int64))
            done = end
            bar.update(len(encoded))
    return ImageSet(images, labels)


def first_image(table: ImageTable, columns: Columns) -> Image.Image:
    """The image of the first row.

    Raises: DataError: if there is none or it cannot be read.
    """
    for rows in table.batches([columns.image]):
        for encoded in rows.batch.column(columns.image)[:1].to_pylist():
            return _decoded(table, encoded, f"{rows.name}, row {rows.first}")
    raise DataError(f"{table.name} holds no image")


def _decoded(table: ImageTable, encoded: Mapping[str, Any] | None, where: str) -> Image.Image:
    encoded = encoded or {}
    if encoded.get("bytes") is not None:
        return read_rgb(io.BytesIO(encoded["bytes"]), where)
    path = table.path_of(encoded.get("path") or "")
    if path is None:
        raise DataError(f"{where}: not a readable image: it has no bytes")
    return read_rgb(path, f"{where}, {path}")


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
    raise OptionError(option, None, f"one of the columns {', '.join(candidates or table.schema.names)} of {table.name}")


def _class_names(features: Mapping[str, Any], label: str) -> tuple[str, ...] | None:
    feature = features.get(label)
    names = feature.get("names") if isinstance(feature, dict) else None
    return tuple(map(str, names)) if isinstance(names, list) else None
