"""Pack what travels to a lent GPU: CIFAR-100 in parts that each fit one call, and the packages that it lacks.

    python benchmarks/gpu/pack.py DATA_ROOT [--out .carry]

Writes Parquet files into the folders OUT/data-1, OUT/data-2 and so on, and wheels into OUT/wheels. On the machine, the
files of all parts are copied into one folder. The images are encoded again without loss, because WebP is smaller than
PNG at this size. Every pixel is compared.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow
from PIL import Image
from pyarrow import parquet

from selfkd.data.reading.parquet_files import parquet_splits
from selfkd.data.sources.cifar import CIFAR100

ROOT = Path(__file__).resolve().parents[2]
PART_MIB = 54
"""The largest part. One call brings at most 64 MiB, with the repository and the wheels."""
ROWS = 2500
"""Number of images in a file."""
WHEELS = ("jsonargparse", "docstring-parser", "typeshed-client")
"""The packages that selfkd needs and the machine does not have."""
_COLUMNS = ("img", "fine_label")
_WEBP_EFFORT = 2  # of 0 to 6; higher ones take many times longer and gain nothing on images so small


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_root", type=Path, help="folder of CIFAR-100's Parquet files")
    parser.add_argument("--out", type=Path, default=ROOT / ".carry", help="an ignored folder (.carry)")
    parser.add_argument("--no-wheels", action="store_true", help="only the data")
    parsed = parser.parse_args(arguments)
    parts = pack_data(parsed.data_root, parsed.out, PART_MIB * 2**20)
    for part in parts:
        print(f"{part}: {sum(file.stat().st_size for file in part.iterdir()) / 2**20:.1f} MiB")
    if not parsed.no_wheels:
        download_wheels(parsed.out / "wheels")
    return 0


def pack_data(root: Path, out: Path, part_bytes: int) -> list[Path]:
    """Write CIFAR-100 into folders of at most `part_bytes` each.

    Args:
        root: folder of the data.
        out: gets the folders data-1, data-2 and so on, which replace those of an earlier call.
        part_bytes: the most bytes that the files of a folder have together.
    Returns: the folders.
    Raises: ValueError: if one file alone is larger, or the packed data is not the same.
    """
    for old in out.glob("data-*"):
        shutil.rmtree(old)
    whole = out / "data-all"
    whole.mkdir(parents=True)
    for split in ("train", "test"):
        for number, table in enumerate(_recoded(root, split)):
            parquet.write_table(table, whole / f"{split}-{number:05d}.parquet", compression="zstd")
    before, after = (CIFAR100(root=str(place)).load(0).fingerprint() for place in (root, whole))
    if before != after:
        raise ValueError(f"{whole} does not hold the data of {root}: checksums {after} and {before}")
    parts: list[Path] = []
    filled = part_bytes
    for file in sorted(whole.iterdir()):
        size = file.stat().st_size
        if size > part_bytes:
            raise ValueError(f"{file} has {size} bytes, more than a part's {part_bytes}; lower ROWS")
        if filled + size > part_bytes:
            parts.append(out / f"data-{len(parts) + 1}")
            parts[-1].mkdir()
            filled = 0
        file.rename(parts[-1] / file.name)
        filled += size
    whole.rmdir()
    return parts


def _recoded(root: Path, split: str) -> Iterator[pyarrow.Table]:
    """The rows of a split in their order, in tables of ROWS rows, with the images as lossless WebP."""
    files = parquet_splits(root)[split]
    table = pyarrow.concat_tables(parquet.read_table(file, columns=list(_COLUMNS)) for file in files)
    for start in range(0, len(table), ROWS):
        rows = table.slice(start, ROWS)
        encoded = [{"bytes": _webp(image["bytes"]), "path": None} for image in rows.column("img").to_pylist()]
        column = pyarrow.array(encoded, pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()}))
        columns = {"img": column, "fine_label": rows.column("fine_label")}
        yield pyarrow.table(columns).replace_schema_metadata(table.schema.metadata)


def _webp(encoded: bytes) -> bytes:
    file = io.BytesIO()
    with Image.open(io.BytesIO(encoded)) as image:
        image.convert("RGB").save(file, "WEBP", lossless=True, method=_WEBP_EFFORT)
    return file.getvalue()


def download_wheels(folder: Path) -> None:
    """Download the wheels. They must be pure Python, because the lent machine may have another processor."""
    if folder.exists():
        shutil.rmtree(folder)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    subprocess.run([*command, "--python-version", "3.12", "--dest", str(folder), *WHEELS], check=True)
    for wheel in sorted(folder.iterdir()):
        if not wheel.name.endswith("-none-any.whl"):
            raise ValueError(f"{wheel.name} is not pure Python; fetch it for the machine's platform instead")
        print(wheel)


if __name__ == "__main__":
    sys.exit(main())
