"""Image classification sets of the Hugging Face Hub, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfkd.data.reading.arrow_tables import BATCH, ImageTable, Rows
from selfkd.data.reading.class_folders import files_below
from selfkd.data.reading.parquet_files import check_shards_below
from selfkd.data.sources.table_source import TableSource
from selfkd.errors import DataError, OptionError, UserError

__all__ = ["Hub"]


@dataclass(frozen=True, kw_only=True)
class Hub(TableSource):
    """A data set that the library `datasets` loads: from the Hugging Face Hub, or from a folder in one of its layouts.

    Args:
        name: name of the data set, as on its page ("uoft-cs/cifar10"), or a folder.
        subset: name of the configuration, if the data set has several.
        root: folder for downloads. The default is the cache of the library `datasets`.
    Raises: OptionError: if a value is out of range.
    """

    name: str | None = None
    subset: str | None = None
    root: str | None = None

    def tables(self) -> tuple[str, Mapping[str, ImageTable]]:
        if not self.name:
            raise OptionError("data.name", self.name, "the name of a data set of the Hugging Face Hub")
        root = None if self.root is None else Path(self.root).expanduser()
        try:
            import datasets
            from huggingface_hub import constants
        except ImportError as error:
            raise UserError("data=hub needs the library datasets: pip install 'selfkd[hub]'") from error
        _check_local(Path(self.name))
        try:
            splits = datasets.load_dataset(self.name, self.subset, cache_dir=None if root is None else str(root))
        except Exception as error:  # a library that downloads may fail in any way
            reason = " ".join(str(error).split())
            raise DataError(f"data.name={self.name!r} cannot be loaded: {type(error).__name__}: {reason}") from error
        config = datasets.config
        caches = (config.HF_DATASETS_CACHE, config.DOWNLOADED_DATASETS_PATH, config.EXTRACTED_DATASETS_PATH)
        own = [Path(self.name), *([] if root is None else [root]), *map(Path, (*caches, constants.HF_HUB_CACHE))]
        places = [place.resolve() for place in own]
        return self.name, {split: _HubTable(f"{self.name}, {split}", rows, places) for split, rows in splits.items()}


def _check_local(folder: Path) -> None:
    """Refuse a folder with missing Parquet files, which the library would not notice, or with far more than images.

    Raises: DataError: if it is such a folder.
    """
    if folder.is_dir():
        for _ in files_below(folder):
            pass
        check_shards_below(folder)


class _HubTable(ImageTable):
    """A `datasets.Dataset`, whose images we decode ourselves, like all others.

    Args:
        name: its name in errors.
        dataset: the `datasets.Dataset`.
        places: folders with files of the data set. Files elsewhere are not read: a downloaded table could name any file
            of the user.
    """

    def __init__(self, name: str, dataset: Any, places: Sequence[Path]) -> None:
        self.name = name
        self.schema: Any = dataset.features.arrow_schema
        self._dataset = dataset
        self._places = places

    def __len__(self) -> int:
        return len(self._dataset)

    def batches(self, columns: Sequence[str]) -> Iterator[Rows]:
        first = 0
        for batch in self._dataset.select_columns(list(columns)).with_format("arrow").iter(batch_size=BATCH):
            yield Rows(self.name, first, batch)
            first += len(batch)

    def path_of(self, stored: str) -> Path | None:
        try:
            path = Path(stored).resolve()
        except (OSError, ValueError):  # a null byte, or links in a circle
            return None
        return path if any(path.is_relative_to(place) for place in self._places) else None
