"""Small data sets of real images, in the layouts that users have."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

KINDS = {"png": "PNG", "jpg": "JPEG", "bmp": "BMP"}


def digit(position: int, side: int = 32) -> Image.Image:
    """A real digit in colour."""
    return _scan(position).convert("RGB").resize((side, side))


def _scan(position: int) -> Image.Image:
    """An 8x8 scan, grey."""
    return Image.fromarray(np.uint8(load_digits().images[position] * (255 / 16)))


def positions_of(digit: int, count: int) -> list[int]:
    """Where the first scans of a digit stand."""
    positions: list[int] = np.flatnonzero(load_digits().target == digit)[:count].tolist()
    return positions


def save_digit(path: Path, position: int, mode: str = "RGB", size: tuple[int, int] | None = None) -> None:
    """A real digit as a JPEG file; unless a size is given, width and height vary with its position."""
    path.parent.mkdir(parents=True, exist_ok=True)
    size = size or (40 + position % 7 * 5, 40 + position % 5 * 8)
    _scan(position).resize(size).convert(mode).save(path, "JPEG", quality=95)


def write_folder(
    root: Path, per_class: int, digits: Sequence[int] = range(3), start: int = 0, kind: str = "png"
) -> Path:
    """Real digits in `<root>/digit <n>/<position>.<kind>`."""
    for label in digits:
        folder = root / f"digit {label}"
        folder.mkdir(parents=True)
        for position in positions_of(label, start + per_class)[start:]:
            digit(position).save(folder / f"{position}.{kind}", KINDS[kind])
    return root


def encoded(position: int) -> bytes:
    """A real digit as a PNG file."""
    file = io.BytesIO()
    digit(position).save(file, "PNG")
    return file.getvalue()


def write_parquet(
    file: Path,
    positions: Sequence[int],
    columns: Sequence[str] = ("image", "label"),
    metadata: bool = True,
    **more: Sequence[object],
) -> Path:
    """Real digits in the Hub's columns, with more columns where asked for."""
    import pyarrow
    from pyarrow import parquet

    image, label = columns
    rows = {
        image: pyarrow.array(
            [{"bytes": encoded(position), "path": None} for position in positions],
            pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()}),
        ),
        label: load_digits().target[list(positions)],
        **more,
    }
    table = pyarrow.table(rows)
    if metadata:
        names = [f"digit {each}" for each in range(10)]
        features = {image: {"_type": "Image"}, label: {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    file.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, file)
    return file


def write_cells(source: Path, root: Path, photographs: int, limits: Mapping[str, int]) -> Path:
    """Cells cut by their boxes from real photographs, `<root>/<class>/*.jpg`, of each class at most so many."""
    taken = dict.fromkeys(limits, 0)
    for annotation in sorted((source / "Annotations").glob("*.xml"))[:photographs]:
        tree = ElementTree.parse(annotation)  # noqa: S314 - the workplace's own files
        with Image.open(source / "JPEGImages" / f"{annotation.stem}.jpg") as photograph:
            for number, cell in enumerate(tree.iter("object")):
                name = cell.findtext("name", "")
                box = [int(cell.findtext(f"bndbox/{side}", "0")) for side in ("xmin", "ymin", "xmax", "ymax")]
                if taken[name] < limits[name] and box[2] - box[0] > 8 and box[3] - box[1] > 8:
                    taken[name] += 1
                    (root / name).mkdir(parents=True, exist_ok=True)
                    photograph.crop(box).save(root / name / f"{annotation.stem}-{number}.jpg")
    return root
