"""Every image of a data set with its label, bad ones included: loading stops at the first of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from selfkd.data.doctor.findings import Finding
from selfkd.data.reading.arrow_images import Columns, ImageTable, encoded_images, find_columns, image_file
from selfkd.data.reading.decoding import open_image
from selfkd.data.reading.parquet_files import ParquetTable, parquet_splits
from selfkd.data.sources.base import Source
from selfkd.data.sources.cifar import CIFAR
from selfkd.data.sources.split_names import SplitNames, assigned
from selfkd.data.sources.table_source import TableSource, numbered_classes
from selfkd.data.splits import ImageSet
from selfkd.errors import DataError

__all__ = ["Listing", "Specimen", "list_loaded", "list_tables"]


class Specimen(NamedTuple):
    """One image that was not opened yet.

    Args:
        where: its file or row, for people.
        split: the data set's own name of its split.
        label: its class.
        open: opens it, as `PIL.Image.open` does, and raises what that raises.
    """

    where: str
    split: str
    label: int
    open: Callable[[], Image.Image]


@dataclass(frozen=True)
class Listing:
    """What a data set consists of.

    Args:
        class_names: in label order.
        roles: which split trains and which tests.
        counts: images of each class, `[K]`, by split.
        specimens: begins to list all images.
        findings: what kept images from being listed.
    """

    class_names: tuple[str, ...]
    roles: SplitNames
    counts: Mapping[str, NDArray[np.int64]]
    specimens: Callable[[], Iterator[Specimen]]
    findings: tuple[Finding, ...] = ()

    def of_classes(self, classes: int | tuple[int | str, ...] | None) -> Listing:
        """What training sees of it with the option `data.classes`; all, where it names a class that is not listed."""
        if classes is None:
            return self
        chosen = self.class_names[:classes] if isinstance(classes, int) else tuple(map(str, classes))
        if not set(chosen) <= set(self.class_names):
            return self
        kept = [self.class_names.index(name) for name in chosen]
        new_label = {label: position for position, label in enumerate(kept)}

        def specimens() -> Iterator[Specimen]:
            for specimen in self.specimens():
                if specimen.label in new_label:
                    yield specimen._replace(label=new_label[specimen.label])

        return replace(
            self,
            class_names=tuple(self.class_names[label] for label in kept),
            counts={split: counts[kept] for split, counts in self.counts.items()},
            specimens=specimens,
        )


def list_loaded(source: Source, seed: int) -> Listing:
    """A data set that is read as a whole, such as torchvision's: its images in memory.

    Raises: UserError: if it cannot be read.
    """
    splits = source.read(seed)
    sets = {name: split for name, split in splits.by_name.items() if isinstance(split, ImageSet)}

    def specimens() -> Iterator[Specimen]:
        for name, split in sets.items():
            for position, label in enumerate(split.labels.tolist()):
                pixels = split.images[position].permute(1, 2, 0).contiguous().numpy()
                yield Specimen(f"{name} sample {position}", name, label, partial(Image.fromarray, pixels))

    counts = {name: _counted(split.labels.numpy(), len(splits.class_names)) for name, split in splits.by_name.items()}
    roles = SplitNames("train", "test", "validation" if splits.validation is not None else None)
    return Listing(splits.class_names, roles, counts, specimens)


def list_tables(source: Source, seed: int) -> Listing:
    """A data set in tables of encoded images.

    Raises: UserError: if tables or columns are not to be found.
    """
    roles, tables = _tables_of(source)
    columns = {name: columns for name, (_, columns) in tables.items()}
    findings: list[Finding] = []
    labels: dict[str, NDArray[np.int64]] = {}
    for name, (table, its_columns) in tables.items():
        labels[name], bad = _labels(table, its_columns)
        findings += bad
    class_names = columns[roles.train].class_names
    if class_names is None:
        known = labels[roles.train][labels[roles.train] != -1]
        try:
            class_names = numbered_classes(known, columns[roles.train].label, f"the split {roles.train}")
        except DataError as error:  # nobody knows the classes of any image
            findings.append(Finding("error", "labels", str(error)))
            return Listing((), roles, {roles.train: np.zeros(0, np.int64)}, lambda: iter(()), tuple(findings))
    for name, its_columns in columns.items():
        if its_columns.class_names not in (None, columns[roles.train].class_names):
            message = f"the splits {roles.train} and {name} name other classes, or in another order"
            findings.append(Finding("error", "classes", message))
        outside = (labels[name] < -1) | (labels[name] >= len(class_names))
        if outside.any():
            rows = tuple(f"{name}, row {row}, label {labels[name][row]}" for row in np.flatnonzero(outside))
            message = f"labels outside [0, {len(class_names)}): {len(rows)}"
            findings.append(Finding("error", "labels", message, rows))

    def specimens() -> Iterator[Specimen]:
        for name, (table, its_columns) in tables.items():
            position = 0
            for rows in table.batches([its_columns.image]):
                for row, encoded in enumerate(encoded_images(rows, its_columns)):
                    where = f"{Path(rows.name).name}, row {rows.first + row}"
                    yield Specimen(where, name, int(labels[name][position]), partial(_opened, table, encoded))
                    position += 1

    counts = {name: _counted(its_labels, len(class_names)) for name, its_labels in labels.items()}
    return Listing(class_names, roles, counts, specimens, tuple(findings))


def _tables_of(source: Source) -> tuple[SplitNames, dict[str, tuple[ImageTable, Columns]]]:
    """Which split is what, and the table and columns of each that is used."""
    tables: Mapping[str, ImageTable]
    if isinstance(source, CIFAR):
        roles = SplitNames("train", "test", None)
        files = parquet_splits(Path(str(source.root)).expanduser())
        missing = [name for name in roles.used if name not in files]
        if missing:
            raise DataError(f"data.root={source.root!r} holds no {missing[0]}-*.parquet")
        tables = {name: ParquetTable(files[name]) for name in roles.used}
        return roles, {name: (table, find_columns(table, "img", source.label_column)) for name, table in tables.items()}
    assert isinstance(source, TableSource)
    where, tables = source.tables()
    roles = assigned(tables, source.train_split, source.test_split, where)
    return roles, {
        name: (tables[name], find_columns(tables[name], source.image_column, source.label_column))
        for name in roles.used
    }


def _labels(table: ImageTable, columns: Columns) -> tuple[NDArray[np.int64], list[Finding]]:
    """The labels of a table, -1 where there is none."""
    parts: list[NDArray[np.int64]] = []
    gaps: list[str] = []
    for rows in table.batches([columns.label]):
        column = rows.batch.column(columns.label)
        parts.append(column.cast("int64", safe=False).fill_null(-1).to_numpy(zero_copy_only=False))
        gaps += [f"{rows.name}, row {rows.first + row}" for row in np.flatnonzero(parts[-1] == -1)]
    labels = np.concatenate(parts) if parts else np.empty(0, np.int64)
    message = f"rows without a label (empty or -1) in column {columns.label!r}: {len(gaps)}"
    return labels, [Finding("error", "labels", message, tuple(gaps))] if gaps else []


def _opened(table: ImageTable, encoded: Mapping[str, Any] | None) -> Image.Image:
    return open_image(image_file(table, encoded))


def _counted(labels: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    known = labels[(labels >= 0) & (labels < num_classes)]
    return np.bincount(known, minlength=num_classes)
