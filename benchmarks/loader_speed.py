"""Measure the images per second that one core loads: from memory beside torchvision's pipeline, and from files.

    python benchmarks/loader_speed.py PHOTOGRAPHS [--rounds 7]

PHOTOGRAPHS is a folder of JPEG photographs. Files of ImageNet's size are made from them. All variants of a table take
turns in one process on one thread, so that other work on the machine slows all alike. A ratio is the median over the
rounds. Writes results/loader_speed.json and docs/loader-speed.md.
"""

from __future__ import annotations

import io
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms import v2

from report import Report, machine, table
from selfkd.contract import Needs
from selfkd.data.augmentation.augmentations import CropFlip, RandomResizedCrop
from selfkd.data.augmentation.regularization import Regularization
from selfkd.data.loading.batches import LoaderOptions
from selfkd.data.loading.loaders import training_loader
from selfkd.data.reading.image_files import ImageFiles
from selfkd.data.splits import ImageSet, Split
from selfkd.runs.environment import environment

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLASSES, SIDE, LARGE_SIDE = 100, 32, 224
PHOTOGRAPH = (500, 375)
QUALITY = 100  # gives the photographs that we used about 110 kB a file, as ImageNet's have
BATCH, LARGE_BATCH = 128, 50
RESIDENT, PER_IMAGE = "resident loader", "torchvision, uint8 tensors"
WORKER = "decode with PIL, crop, flip"

Pass = Callable[[], int]
"""Loads images once, and returns their number."""

_INTRODUCTION = """\
# What a loader gives

Images per second of one core. The variants of a table take turns in one process. `relative` divides a variant's speed
by that of the yardstick in the same round; it is the median over the rounds. Other work ran on the same core during the
measurement. It slowed all variants alike, because they took turns: the ratios are fair, the absolute figures are lower
bounds.
"""
_SMALL = """\
## Images in memory: {side}x{side}, batches of {batch}

Crop with padding 4, flip, normalisation to float32. The yardstick is torch's `DataLoader` without worker processes over
torchvision's v2 transforms, one image at a time, on uint8 tensors. The row below it has PIL images, as most
releases use them on CIFAR. The resident loader does the same to a whole batch at once on the device that trains, here
the CPU. Every row of a crop is contiguous in memory, so the loader only copies rows.

torchvision's policies change a whole batch by one draw. Each image needs a draw of its own, and the operations are of
too many kinds and strengths to be shared by a batch. So a policy runs image by image, in `loader.workers` processes.
The rows show the speed of one process.
"""
_LARGE = """\
## Photographs from files: {width}x{height} JPEG of {kilobytes:.0f} kB, to {side}x{side}

{count} real photographs, in the page cache. The yardstick, `{worker}`, is what a worker process of the streaming loader
does to an image: it decodes, cuts out a random part, scales and flips. The rows of the `streaming loader` add batching
and normalisation in the process that trains; if a GPU trains, the GPU does them.

- torchvision's decoder gives the same pixels in less time, but torchvision 0.29 has deprecated it and will remove it.
  The loader stays with PIL.
- Decoding at half scale in the DCT domain (PIL's `draft`) would leave {half_width}x{half_height} pixels, fewer than a
  part of {side} pixels needs, so it would lose resolution. It would help with files of about twice this size or more.
"""
_CORES = """\
A worker reads {speed:,.0f} images per second here. The table shows how many such cores must read, beside the core that
trains, so that a GPU of this speed never waits:

{table}

We did not measure how many images of side {side} a ResNet-18 takes on one GPU; `seconds/train` in the `metrics.csv` of
a run shows it. `loader.workers=auto` starts one process for each core but one, at most 16. If the cores are too few,
scale the files down once: a file of half the width and height decodes in about a quarter of the time.
"""


class PerImage(Dataset[tuple[Any, int]]):
    """torchvision's pipeline: it transforms one image at a time."""

    def __init__(self, images: Sequence[Any], labels: Sequence[int], transform: v2.Transform) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: int) -> tuple[Any, int]:
        return self.transform(self.images[position]), self.labels[position]


def loaded(data: Split, augmentation: Any, batch_size: int, **regularization: Any) -> Pass:
    """A pass over one epoch of our loader, in this process."""
    options = LoaderOptions(batch_size=batch_size, workers=0)
    loader = training_loader(
        data, augmentation, MEAN, STD, options, 0, Needs(), True, CLASSES, Regularization(**regularization)
    )
    return lambda: sum(len(batch.images) for batch in loader.epoch(0))


def each(function: Callable[[bytes], Tensor], files: Iterable[bytes]) -> Pass:
    """A pass over encoded images, one after the other."""
    return lambda: sum(function(file).ndim == 3 for file in files)


def small_variants(resident: int, per_image: int) -> dict[str, Pass]:
    """Loaders of images of CIFAR's size. The pixels are random, because no speed here depends on them.

    Args:
        resident: number of images for loaders that augment a batch at once.
        per_image: number of images for loaders that augment them one by one.
    """
    pixels = torch.randint(0, 256, (resident, 3, SIDE, SIDE), dtype=torch.uint8)
    labels = torch.arange(resident) % CLASSES
    data, few = ImageSet(pixels, labels), ImageSet(pixels[:per_image], labels[:per_image])
    geometry = [v2.RandomCrop(SIDE, padding=4), v2.RandomHorizontalFlip()]
    normalise = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]

    def theirs(images: Sequence[Any], *transforms: Any) -> Pass:
        dataset = PerImage(images, few.labels.tolist(), v2.Compose(transforms))
        loader = DataLoader(dataset, BATCH, shuffle=True)
        return lambda: sum(len(batch) for batch, _ in loader)

    pictures = [v2.functional.to_pil_image(image) for image in few.images]
    return {
        PER_IMAGE: theirs(list(few.images), *geometry, *normalise),
        "torchvision, PIL images": theirs(pictures, *geometry, v2.PILToTensor(), *normalise),
        RESIDENT: loaded(data, CropFlip(), BATCH),
        "resident loader, Cutout": loaded(data, CropFlip(), BATCH, cutout=8),
        "resident loader, Mixup": loaded(data, CropFlip(), BATCH, mixup=0.4),
        "resident loader, CutMix": loaded(data, CropFlip(), BATCH, cutmix=1.0),
        "with TrivialAugment": loaded(few, CropFlip(), BATCH, policy="trivialaugment"),
        "with AutoAugment": loaded(few, CropFlip(), BATCH, policy="autoaugment_cifar10"),
        "with RandAugment": loaded(few, CropFlip(), BATCH, policy="randaugment"),
    }


def large_variants(folder: Path) -> dict[str, Pass]:
    """Loaders of JPEG files, and their single steps."""
    paths = sorted(folder.iterdir())
    data = ImageFiles.of(folder, [(str(path), i % 2) for i, path in enumerate(paths)], _unused, LARGE_SIDE)
    encoded = [path.read_bytes() for path in paths]
    crop = v2.Compose([v2.RandomResizedCrop(LARGE_SIDE), v2.RandomHorizontalFlip()])
    return {
        WORKER: each(lambda file: crop(by_pil(file)), encoded),
        "decode with torchvision, crop, flip": each(lambda file: crop(by_torchvision(file)), encoded),
        "decode at half scale, crop, flip": each(lambda file: crop(at_half_scale(file)), encoded),
        "decode with PIL alone": each(by_pil, encoded),
        "decode with torchvision alone": each(by_torchvision, encoded),
        "decode at half scale alone": each(at_half_scale, encoded),
        "streaming loader": loaded(data, RandomResizedCrop(size=LARGE_SIDE), LARGE_BATCH),
        "streaming loader, TrivialAugment": loaded(
            data, RandomResizedCrop(size=LARGE_SIDE), LARGE_BATCH, policy="trivialaugment"
        ),
    }


def by_torchvision(file: bytes) -> Tensor:
    """Decode a file with torchvision to uint8 `[3, H, W]`."""
    return decode_jpeg(torch.frombuffer(bytearray(file), dtype=torch.uint8), mode=ImageReadMode.RGB)


def by_pil(file: bytes) -> Tensor:
    """Decode a file with PIL to uint8 `[3, H, W]`."""
    with Image.open(io.BytesIO(file)) as image:
        return v2.functional.pil_to_tensor(image.convert("RGB"))


def at_half_scale(file: bytes) -> Tensor:
    """Decode a file with PIL to uint8 `[3, H/2, W/2]`, scaled in the DCT domain."""
    with Image.open(io.BytesIO(file)) as image:
        image.draft("RGB", (image.width // 2, image.height // 2))
        return v2.functional.pil_to_tensor(image.convert("RGB"))


def _unused(image: Image.Image) -> Tensor:
    raise AssertionError("training parts are cut out of the original")


def make_photographs(source: Path, folder: Path, count: int) -> float:
    """Write JPEG files of ImageNet's size, and return their mean size in kilobytes."""
    originals = sorted(path for path in source.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))[:count]
    for position, path in enumerate(originals):
        with Image.open(path) as image:
            image.convert("RGB").resize(PHOTOGRAPH, Image.Resampling.BICUBIC).save(
                folder / f"{position}.jpg", quality=QUALITY
            )
    return statistics.mean(path.stat().st_size for path in folder.iterdir()) / 1e3


def measure(variants: Mapping[str, Pass], yardstick: str, rounds: int) -> dict[str, Any]:
    """Measure the speeds of all variants, which take turns."""
    speeds: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(rounds + 1):
        for name, run in variants.items():
            started = time.perf_counter()
            images = run()
            speed = images / (time.perf_counter() - started)
            if turn:  # the first warms up
                speeds[name].append(speed)
    return {
        name: {
            "images_per_second": round(statistics.median(measured), 1),
            "relative": round(statistics.median(m / y for m, y in zip(measured, speeds[yardstick], strict=True)), 3),
            "rounds": [round(speed, 1) for speed in measured],
        }
        for name, measured in speeds.items()
    }


def measure_all(photographs: Path, rounds: int, resident: int, per_image: int, files: int) -> dict[str, Any]:
    """Measure both tables."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # torchvision's warning about its own decoders
        warnings.filterwarnings("ignore", message="The image decoding", category=DeprecationWarning)
        kilobytes = make_photographs(photographs, Path(folder), files)
        large = large_variants(Path(folder))
        return {
            "environment": environment(torch.device("cpu")),
            "rounds": rounds,
            "load": os.getloadavg()[0],
            "files": {"count": len(list(Path(folder).iterdir())), "kilobytes": round(kilobytes, 1)},
            "small": measure(small_variants(resident, per_image), PER_IMAGE, rounds),
            "large": measure(large, WORKER, rounds),
        }


def page(results: Mapping[str, Any]) -> str:
    """The documentation page."""

    def speeds(rows: Mapping[str, Any]) -> str:
        cells = [[name, f"{row['images_per_second']:,.0f}", f"{row['relative']:.2f}"] for name, row in rows.items()]
        return table(cells, ["variant", "images/s and core", "relative"]) + "\n"

    width, height = PHOTOGRAPH
    speed = results["large"][WORKER]["images_per_second"]
    needed = [[f"{taken:,}", f"{taken / speed:.1f}"] for taken in (500, 1000, 2000, 4000)]
    return "\n".join(
        [
            _INTRODUCTION,
            _SMALL.format(side=SIDE, batch=BATCH),
            speeds(results["small"]),
            _LARGE.format(
                **results["files"],
                width=width,
                height=height,
                half_width=(width + 1) // 2,
                half_height=(height + 1) // 2,
                side=LARGE_SIDE,
                worker=WORKER,
            ),
            speeds(results["large"]),
            _CORES.format(speed=speed, table=table(needed, ["images/s", "cores"]), side=LARGE_SIDE),
            f"{machine(results['environment'])}, {results['rounds']} rounds, load average {results['load']:.1f} at the "
            "start.",
        ]
    )


REPORT = Report("loader_speed", "loader-speed.md", page, arguments="PHOTOGRAPHS")


def main(given: Sequence[str] | None = None) -> int:
    parser = REPORT.parser(__doc__)
    parser.add_argument("photographs", type=Path, metavar="PHOTOGRAPHS")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--resident", type=int, default=50_000, help="images of an epoch in memory")
    parser.add_argument("--per-image", type=int, default=5_000, help="images of an epoch taken one by one")
    parser.add_argument("--files", type=int, default=300, help="photographs at most")
    arguments = parser.parse_args(given)
    torch.set_num_threads(1)
    sizes = {"resident": arguments.resident, "per_image": arguments.per_image, "files": arguments.files}
    REPORT.write(measure_all(arguments.photographs, arguments.rounds, **sizes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
