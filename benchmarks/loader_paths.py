"""Train on CIFAR-100 by every path from the files to the network: held in memory, from a folder, and read from disk.

    python benchmarks/loader_paths.py DATA_ROOT [--runs runs] [--images FOLDER]

DATA_ROOT holds CIFAR-100's Parquet files. First, the images are written as PNG files into the folder --images, one
folder for each class. A quarter-width ResNet-18 trains for 3 epochs of all 50,000 images with the method plain, with 3
seeds by each path. Writes results/loader_paths.json and docs/loader-paths.md. After an interruption, the same command
continues.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from report import Report, table

RECIPE = "dtskd/cifar100/resnet18/plain"
SEEDS = (0, 1, 2)
OVERRIDES = {"backbone.width": 16, "trainer.epochs": 3, "trainer.best_after_epoch": 0, "loader.workers": 1}
FOLDER = {"data": "folder", "data.image_size": 32}
PATHS = {
    "Parquet, in memory": {},
    "folder, in memory": {**FOLDER, "data.memory_gb": 4},
    "folder, read from disk": {**FOLDER, "data.memory_gb": 0},
}

_INTRODUCTION = """\
# One result by every path

CIFAR-100 takes three paths to the network: as Parquet files, which `cifar100` holds in memory; as PNG files in class
folders, which `folder` holds in memory; and as the same folder, which a worker process reads from disk
(`data.memory_gb=0`). A quarter-width ResNet-18 trains for 3 epochs of all 50,000 images, with the method plain and
DTSKD's protocol. It makes no difference, to the last digit, whether the images of a folder are in memory or on disk.
The order of the images in Parquet files differs from that of sorted folders, so this is another draw of the same
experiment.
"""


def write_images(data_root: str, folder: Path) -> None:
    """Write CIFAR-100 without loss as `<split>/<class>/<position>.png`. Files that are there are kept."""
    from torchvision.transforms.v2.functional import to_pil_image

    from selfkd.data.sources.cifar import CIFAR100

    splits = CIFAR100(root=data_root).load(seed=0)
    for name, split in splits.by_name.items():
        for position, (image, label) in enumerate(zip(split.images, split.labels.tolist(), strict=True)):
            file = folder / name / splits.class_names[label] / f"{position:05}.png"
            if not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                to_pil_image(image).save(file)


def measure(data_root: str, images: Path, runs: Path) -> dict[str, Any]:
    """Train by every path with every seed, or continue these runs, and collect the results of the runs."""
    from selfkd.recipes.reader import resolve
    from selfkd.runs.train import run
    from selfkd.training.epoch_log import read_epoch_log

    records = []
    for seed in SEEDS:
        for path, options in PATHS.items():
            root = str(images) if options else data_root
            name = f"loader_paths/{path.replace(', ', '-').replace(' ', '_')}"
            overrides = {**OVERRIDES, **options, "data.root": root, "seed": seed, "name": name}
            folder = run(resolve(RECIPE, overrides), runs)
            scores = folder.scores()
            records.append(
                {
                    "path": path,
                    "seed": seed,
                    "accuracy": {split: of["main"]["top1"]["value"] for split, of in scores["last"]["scores"].items()},
                    "seconds": scores["seconds"],
                    "environment": json.loads(folder.environment_file.read_text()),
                    "epochs": read_epoch_log(folder.metrics_file),
                }
            )
    return {"runs": records}


def page(results: dict[str, Any]) -> str:
    """The documentation page."""
    rows = []
    for path in PATHS:
        runs = [record for record in results["runs"] if record["path"] == path]
        test = [record["accuracy"]["test"] for record in runs]
        seconds = statistics.median(record["seconds"]["train_epoch_median"] for record in runs)
        mean = f"{statistics.mean(test):.2f} ± {statistics.stdev(test):.2f}"
        rows.append([path, *(f"{accuracy:.2f}" for accuracy in test), mean, f"{seconds:.1f}"])
    environment = results["runs"][0]["environment"]
    headers = ["path", *(f"seed {seed}" for seed in SEEDS), "mean ± std", "s an epoch"]
    return (
        f"{_INTRODUCTION}\n{table(rows, headers)}\n\n"
        f"Test accuracy in % after the last epoch, {len(SEEDS)} seeds. bf16 autocast, channels-last, "
        f"{environment['threads']} CPU thread(s), torch {environment['packages']['torch']}."
    )


REPORT = Report("loader_paths", "loader-paths.md", page, arguments="DATA_ROOT")


def main() -> int:
    parser = REPORT.parser(__doc__)
    parser.add_argument("data_root", help="folder with CIFAR-100's Parquet files")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs")
    parser.add_argument("--images", type=Path, default=Path("runs") / "cifar100-images", help="gets the PNG files")
    arguments = parser.parse_args()
    write_images(arguments.data_root, arguments.images)
    REPORT.write(measure(arguments.data_root, arguments.images, arguments.runs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
