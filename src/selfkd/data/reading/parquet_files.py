"""Parquet files in the layouts of the Hugging Face Hub."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from selfkd.data.reading.arrow_tables import BATCH, ImageTable, Rows
from selfkd.data.reading.regular_files import regular_status
from selfkd.errors import DataError, UserError, few

__all__ = ["ParquetTable", "check_shards", "check_shards_below", "parquet_splits"]

# train-00000-of-00002, train-0, …-1a2b3c
_PART = re.compile(r"(?P<split>.+?)-(?P<number>\d+)(-of-(?P<total>\d+))?(-[0-9a-f]+)?")
_SHOWN = 5  # missing shards that an error names
_PATTERNS = ("*.parquet", "*/*.parquet", "*/*/*.parquet")


def parquet_splits(folder: Path) -> dict[str, list[Path]]:
    """The files of every split, by its name; empty if there is no Parquet file.

    The Hub stores a split as `train-00000-of-00002.parquet`, `train.parquet` or `train/0000.parquet`, in the data set's
    folder, in its sub-folder `data` or in a sub-folder with the name of the configuration.

    Args:
        folder: an existing folder.
    Raises: DataError: if there are several data sets below the folder, or it cannot be listed.
    """
    sets = _sets(folder)
    if len(sets) > 1:
        raise DataError(
            f"data.root={str(folder)!r} holds Parquet files of several data sets; "
            f"data.root must be one of {', '.join(map(str, sets))}"
        )
    return {split: files for splits in sets.values() for split, files in splits.items()}


def check_shards_below(folder: Path) -> None:
    """Refuse a folder with a split whose shards are missing or do not belong together; see `check_shards`.

    Raises: DataError: naming the shards.
    """
    for splits in _sets(folder).values():
        for files in splits.values():
            check_shards(files)


def _sets(folder: Path) -> dict[Path, dict[str, list[Path]]]:
    """The files of every split of every data set, by the folder of the set."""
    try:
        found = sorted(path for pattern in _PATTERNS for path in folder.glob(pattern))
    except OSError as error:
        raise DataError(f"{error.filename} cannot be listed: {error.strerror}") from error
    sets: dict[Path, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for file in found:
        if any(part.startswith(".") for part in file.relative_to(folder).parts):
            continue
        numbered = file.stem.isdecimal()
        part = _PART.fullmatch(file.stem)
        split = file.parent.name if numbered else part["split"] if part else file.stem
        sets[file.parent.parent if numbered else file.parent][split].append(file)
    return sets


def check_shards(files: Sequence[Path]) -> None:
    """Refuse shards that are missing or do not belong together: `train-00000-of-00002.parquet` is one of two.

    Args:
        files: the files of one split.
    Raises: DataError: naming the shards.
    """
    parts = {file: _PART.fullmatch(file.stem) for file in files}
    totals = {file: int(part["total"]) for file, part in parts.items() if part is not None and part["total"]}
    if not totals:
        return
    first, total = next(iter(totals.items()))
    other = next((file for file in files if totals.get(file) != total), None)
    if other is not None:
        raise DataError(
            f"{first} and {other.name} do not belong together: the first one is a shard of {total}; remove the "
            "files of another version of the data set"
        )
    file_of: dict[int, Path] = {}
    for file, part in parts.items():
        assert part is not None
        twice = file_of.setdefault(int(part["number"]), file)
        if twice != file:
            raise DataError(f"{twice} and {file.name} are the same shard of {total}; remove one of them")
    start = 1 if total in file_of and 0 not in file_of else 0  # the Hub counts from 0, others from 1
    numbers = range(start, start + total)
    outside = [file.name for number, file in file_of.items() if number not in numbers]
    if outside:
        raise DataError(
            f"{first.parent} holds {few(outside)}, whose number is too large for a shard of {total}; remove it"
        )
    if len(file_of) < total:
        digits = len(first.stem.partition("-of-")[2].partition("-")[0])
        missing = (f"{number:0{digits}}" for number in numbers if number not in file_of)
        lacking = total - len(file_of)
        shown = ", ".join(islice(missing, _SHOWN)) + (f" and {lacking - _SHOWN} more" if lacking > _SHOWN else "")
        advice = f"{shown} is missing; download it" if lacking == 1 else f"{shown} are missing; download them"
        raise DataError(
            f"{first.parent} holds {len(file_of)} of the {total} shards to which {first.name} belongs; {advice}"
        )


class ParquetTable(ImageTable):
    """Parquet files with the same columns, one after the other.

    Args:
        files: at least one.
    Raises:
        UserError: if pyarrow is missing.
        DataError: if a file is damaged or a shard is missing; when rows are read, also if the columns of two files
            differ.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        check_shards(files)
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
            if schema.names.count(column) != 1 or schema.field(column).type != self.schema.field(column).type:
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
        regular_status(file)
        opened = parquet.ParquetFile(file)
        _ = opened.schema_arrow  # which is read only now, and may be damaged by itself
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read as Parquet: {error}") from error
    return opened
