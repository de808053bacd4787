"""Parquet files in the layouts of the Hugging Face Hub."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from selfkd.data.arrow_images import BATCH, ImageTable, Rows
from selfkd.errors import DataError, UserError

__all__ = ["ParquetTable", "parquet_splits"]

_PART = re.compile(r"(?P<split>.+?)-\d+(-of-\d+)?(-[0-9a-f]+)?")  # train-00000-of-00002, train-0, …-1a2b3c
_PATTERNS = ("*.parquet", "*/*.parquet", "*/*/*.parquet")


def parquet_splits(folder: Path) -> dict[str, list[Path]]:
    """The files of every split, by its name; empty where there is no Parquet file.

    The Hub stores a split as `train-00000-of-00002.parquet`, `train.parquet` or `train/0000.parquet`, itself in the
    data set's folder, in `data` or in a folder of the configuration's name.

    Args:
        folder: exists.
    Raises: DataError: if there are several data sets below the folder.
    """
    sets: dict[Path, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for file in sorted(path for pattern in _PATTERNS for path in folder.glob(pattern)):
        if any(part.startswith(".") for part in file.relative_to(folder).parts):
            continue
        numbered = file.stem.isdecimal()
        part = _PART.fullmatch(file.stem)
        split = file.parent.name if numbered else part["split"] if part else file.stem
        sets[file.parent.parent if numbered else file.parent][split].append(file)
    if len(sets) > 1:
        raise DataError(
            f"data.root={str(folder)!r} holds Parquet files of several data sets; "
            f"data.root must be one of {', '.join(map(str, sets))}"
        )
    return {split: files for splits in sets.values() for split, files in splits.items()}


class ParquetTable(ImageTable):
    """Parquet files with the same columns, one after the other.

    Args:
        files: at least one.
    Raises:
        UserError: if pyarrow is missing.
        DataError: if a file is damaged; while reading, also if its columns are others than the first one's.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        self.name = str(files[0])
        opened = [_opened(file) for file in files]
        self.schema: Any = opened[0].schema_arrow
        self._num_rows: int = sum(parquet.metadata.num_rows for parquet in opened)
        for parquet in opened:
            parquet.close()

    def __len__(self) -> int:
        return self._num_rows

    def batches(self, columns: Sequence[str]) -> Iterator[Rows]:
        import pyarrow

        for file in self._files:
            first = 0
            parquet = _opened(file)
            try:
                self._check_columns(file, parquet.schema_arrow, columns)
                for batch in parquet.iter_batches(batch_size=BATCH, columns=list(columns)):
                    yield Rows(str(file), first, batch)
                    first += len(batch)
            except (pyarrow.ArrowException, OSError) as error:
                raise DataError(f"{file}: cannot be read as Parquet: {error}") from error
            finally:
                parquet.close()

    def _check_columns(self, file: Path, schema: Any, columns: Sequence[str]) -> None:
        for column in columns:
            if column not in schema.names or schema.field(column).type != self.schema.field(column).type:
                raise DataError(
                    f"{file} has the columns {schema.names}; in {self.name}, {column!r} has another type or name"
                )


def _opened(file: Path) -> Any:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UserError("reading Parquet needs pyarrow: pip install 'selfkd[parquet]'") from error
    try:
        return parquet.ParquetFile(file)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{file}: cannot be read as Parquet: {error}") from error
