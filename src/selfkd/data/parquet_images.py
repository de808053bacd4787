"""Image classification sets stored as Parquet in the layout of the Hugging Face Hub."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from selfkd.data.decoding import read_rgb
from selfkd.data.source import ImageSet
from selfkd.errors import DataError

__all__ = ["read_parquet_split"]


def read_parquet_split(
    folder: Path, split: str, image_column: str, label_column: str
) -> tuple[ImageSet, tuple[str, ...] | None]:
    """All images of one split, decoded to RGB.

    Args:
        folder: holds `<split>-*.parquet`, itself or in its sub-folder `data`.
        split: "train" or "test".
        image_column: column of structs with the encoded bytes.
        label_column: column of integer labels.
    Returns: the images, and the class names if the file's metadata give them.
    Raises: DataError: if files, columns or pyarrow are missing, a file is damaged, or an image cannot be read.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise DataError("reading Parquet needs pyarrow: pip install 'selfkd[parquet]'") from error
    if not folder.is_dir():
        raise DataError(f"data.root={str(folder)!r} is not a folder")
    files = sorted(folder.glob(f"{split}-*.parquet")) or sorted(folder.glob(f"data/{split}-*.parquet"))
    if not files:
        raise DataError(f"data.root={str(folder)!r} holds no {split}-*.parquet, itself or in its sub-folder data")
    images: list[NDArray[np.uint8]] = []
    labels: list[NDArray[np.int64]] = []
    names: tuple[str, ...] | None = None
    for file in files:
        try:
            columns = parquet.read_schema(file).names
            if {image_column, label_column} - set(columns):
                raise DataError(f"{file} has the columns {columns}; {image_column!r} and {label_column!r} are needed")
            table = parquet.read_table(file, columns=[image_column, label_column])
            _check_types(file, table, image_column, label_column)
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f"{file}: cannot be read as Parquet: {error}") from error
        names = names or _class_names(table.schema.metadata or {}, label_column)
        encoded = table.column(image_column).combine_chunks().field("bytes").to_pylist()
        with ThreadPoolExecutor() as pool:  # PIL decodes outside the interpreter lock
            images.extend(pool.map(_decode, encoded, [f"{file}, row {row}" for row in range(len(encoded))]))
        labels.append(table.column(label_column).to_numpy().astype(np.int64))
    if not images:
        raise DataError(f"{folder}: the {split} files hold no image")
    sizes = {image.shape for image in images}
    if len(sizes) != 1:
        raise DataError(f"{folder}: images of {len(sizes)} sizes in {split}; all must be of one size")
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return ImageSet(stacked, torch.from_numpy(np.concatenate(labels))), names


def _decode(encoded: bytes | None, where: str) -> NDArray[np.uint8]:
    return np.asarray(read_rgb(io.BytesIO(encoded or b""), where))


def _check_types(file: Path, table: Any, image_column: str, label_column: str) -> None:
    from pyarrow import types

    image, label = table.schema.field(image_column).type, table.column(label_column)
    if not (types.is_struct(image) and image.get_field_index("bytes") >= 0):
        raise DataError(f"{file}: column {image_column!r} must be a struct with the encoded 'bytes', it is {image}")
    if not types.is_integer(label.type) or label.null_count:
        raise DataError(
            f"{file}: column {label_column!r} must hold whole numbers without gaps, "
            f"it is {label.type} with {label.null_count} empty"
        )


def _class_names(metadata: dict[bytes, bytes], label_column: str) -> tuple[str, ...] | None:
    """The names that the Hub's metadata give; None where they are absent or of another form."""
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"][label_column]["names"]
    except (KeyError, ValueError, TypeError):
        return None
    return tuple(map(str, names)) if isinstance(names, list) else None
