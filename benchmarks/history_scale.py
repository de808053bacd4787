"""Measure memory, time and error of a history that keeps the top k classes: at ImageNet's size, and on CIFAR-100.

    python benchmarks/history_scale.py [DATA_ROOT] [--parts scale accuracy] [--rounds 5] [--runs runs]

`scale` compares a history of 1,281,167 samples, 1,000 classes and 4 heads with a training step of a plain ResNet-18 on
224x224 images; the predictions are synthetic. `accuracy` trains DTSKD on 100 images of each class of CIFAR-100, whose
Parquet files are in DATA_ROOT; after an interruption, the same command continues. Writes results/history_scale.json
after each part, and the section `history_scale` of docs/scaling.md. `--tiny` measures a small history and prints it.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from report import Report, machine, table
from selfkd.memories import History, HistoryOptions
from selfkd.memories.row_formats import TopClasses

HEADS = ("main", "branch1", "branch2", "branch3")
PLACES = {"device": "main memory", "memmap": "files"}
DENSE = {"all, float32": {"top_k": 0}, "all, float16": {"top_k": 0, "dtype": "float16"}}
AIM_GB, AIM_SHARE = 0.5, 0.01
EPSILON = 1e-7  # DTSKD's loss adds it to both sides, as its release does

RECIPE = "dtskd/cifar100/resnet18/dtskd"
SEEDS = (0, 1, 2)
TOP = {"all": 0, "32": 32, "16": 16, "8": 8}
OVERRIDES = {
    "backbone.width": 16,
    "data.train_per_class": 100,
    "trainer.epochs": 15,
    "trainer.evaluate_every": 15,
    "trainer.best_after_epoch": 0,
}


@dataclass(frozen=True)
class Size:
    """The sizes of what is measured.

    Args:
        samples: number of samples of the training set.
        classes: K.
        batch: B.
        pass_of: images in one forward pass; the gradients of several passes are summed for one step.
        side: side of the images in pixels.
        top_k: numbers of classes to keep.
        predictions: number of synthetic predictions, which are made once and reused.
    """

    samples: int = 1_281_167
    classes: int = 1000
    batch: int = 256
    pass_of: int = 32
    side: int = 224
    top_k: tuple[int, ...] = (4, 8, 12, 16, 32)
    predictions: int = 4096


TINY = Size(samples=500, classes=50, batch=8, pass_of=4, side=32, top_k=(4,), predictions=64)


def synthetic_predictions(count: int, classes: int, seed: int) -> Tensor:
    """Distributions `[count, K]` that resemble those of a trained ResNet-18 on ImageNet.

    Every class has a random direction in 16 dimensions. A sample lies at the direction of its class, moved by noise
    whose strength is log-normal and differs between samples. Its logits are the products with all directions. So
    classes have near and far neighbours, and samples are easy or hard.
    """
    dimensions, sharpness, spread = 16, 16.0, 0.8
    generator = torch.Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(torch.randn(classes, dimensions, generator=generator), dim=1)
    labels = torch.randint(classes, (count,), generator=generator)
    strength = (spread * torch.randn(count, 1, generator=generator)).exp()
    noise = torch.randn(count, dimensions, generator=generator) / dimensions**0.5
    return (sharpness * (directions[labels] + strength * noise) @ directions.T).softmax(dim=1)


def shape_of(rows: Tensor) -> dict[str, float]:
    """Mean masses and entropy, which can be compared with those of a real network."""
    ordered = rows.sort(dim=1, descending=True).values
    return {
        "top1_mass": round(ordered[:, 0].mean().item(), 4),
        "top5_mass": round(ordered[:, :5].sum(dim=1).mean().item(), 4),
        "entropy_nat": round(torch.special.entr(rows).sum(dim=1).mean().item(), 4),
    }


def error_of(rows: Tensor, top_k: int) -> dict[str, float]:
    """The mass of the top classes, and the divergence between the predictions written and those read."""
    form = TopClasses(1, rows.shape[1], top_k)
    read = form.decode(form.encode(rows[:, None]))[:, 0]
    divergence = (rows * ((rows + EPSILON).log() - (read + EPSILON).log())).sum(dim=1)
    return {
        "kept_mass": round(rows.topk(top_k, dim=1).values.sum(dim=1).mean().item(), 5),
        "kl_mean": round(divergence.mean().item(), 5),
        "kl_99th": round(divergence.quantile(0.99).item(), 5),
    }


class PlainStep:
    """A training step of a plain ResNet-18, with which the history is compared."""

    def __init__(self, size: Size) -> None:
        import timm

        torch.manual_seed(0)
        self.network = timm.create_model("resnet18", num_classes=size.classes).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(self.network.parameters(), 0.01, 0.9, weight_decay=1e-4)
        images = torch.randn(size.pass_of, 3, size.side, size.side)
        self.images = images.to(memory_format=torch.channels_last)
        self.labels = torch.arange(size.pass_of) % size.classes
        self.passes = size.batch // size.pass_of

    def __call__(self) -> float:
        started = time.perf_counter()
        self.optimizer.zero_grad()
        for _ in range(self.passes):
            torch.nn.functional.cross_entropy(self.network(self.images), self.labels).backward()
        self.optimizer.step()
        return time.perf_counter() - started


class HistoryStep:
    """The history's part of a training step: it reads and writes random samples once, with all rows written."""

    def __init__(self, size: Size, top_k: int, storage: str, rows: Tensor, folder: Path) -> None:
        self.size, self.rows = size, rows
        self.history = filled(size, top_k, storage, rows, folder)
        self.generator = torch.Generator().manual_seed(0)

    def __call__(self) -> float:
        size = self.size
        indices = torch.randint(size.samples, (size.batch,), generator=self.generator)
        labels = torch.randint(size.classes, (size.batch,), generator=self.generator)
        chosen = [torch.randint(len(self.rows), (size.batch,), generator=self.generator) for _ in HEADS]
        predicted = {head: self.rows[positions] for head, positions in zip(HEADS, chosen, strict=True)}
        started = time.perf_counter()
        self.history.fetch(indices)
        self.history.read(indices, labels)
        self.history.write(indices, predicted)
        return time.perf_counter() - started


def filled(size: Size, top_k: int, storage: str, rows: Tensor, folder: Path) -> History:
    """A history in which all rows of both generations are written."""
    history = History(size.samples, size.classes, HEADS)
    history.configure(HistoryOptions(top_k=top_k, storage=storage), folder)
    sample = History(len(rows), size.classes, HEADS, HistoryOptions(top_k=top_k))
    sample.write(torch.arange(len(rows)), dict.fromkeys(HEADS, rows))
    sample.commit()
    tile = torch.arange(size.samples) % len(rows)
    state = {key: value[tile] if isinstance(value, Tensor) else value for key, value in sample.state_dict().items()}
    history.load_state_dict({**state, "num_samples": size.samples})
    history.to("cpu")
    history.write(tile[:1], dict.fromkeys(HEADS, rows[:1]))
    history.commit()  # all other rows are carried over
    return history


def measure_scale(size: Size, rounds: int) -> dict[str, Any]:
    """Measure sizes, times, errors and memory."""
    from selfkd.runs.environment import environment

    rows = synthetic_predictions(size.predictions, size.classes, seed=0)
    dense = {
        name: History(size.samples, size.classes, HEADS, HistoryOptions(**options)).nbytes
        for name, options in DENSE.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        steps = {
            (top_k, storage): HistoryStep(size, top_k, storage, rows, Path(folder))
            for top_k in size.top_k
            for storage in PLACES
        }
        plain = PlainStep(size)
        plain()
        seconds: dict[Any, list[float]] = {key: [step()] for key, step in steps.items()}
        seconds = {"plain": [], **{key: [] for key in seconds}}  # the first of each does not count
        for _ in range(rounds):
            seconds["plain"].append(plain())
            for key, step in steps.items():
                seconds[key].append(step())
        sizes = {top_k: steps[top_k, "device"].history.nbytes for top_k in size.top_k}
    return {
        "size": vars(size),
        "dense_bytes": dense,
        "synthetic": shape_of(rows),
        "plain_seconds": [round(value, 3) for value in seconds["plain"]],
        "top_k": {
            str(top_k): {
                "bytes": sizes[top_k],
                **error_of(rows, top_k),
                "places": {
                    storage: {
                        "milliseconds": round(1e3 * statistics.median(seconds[top_k, storage]), 2),
                        "relative": round(
                            statistics.median(
                                mine / base
                                for mine, base in zip(seconds[top_k, storage], seconds["plain"], strict=True)
                            ),
                            6,
                        ),
                        **memory_of(size, top_k, storage),
                    }
                    for storage in PLACES
                },
            }
            for top_k in size.top_k
        },
        "environment": environment(torch.device("cpu")),
    }


def memory_of(size: Size, top_k: int, storage: str) -> dict[str, float]:
    """Measure the memory of a history in megabytes, in a new process."""
    tiny = ["--tiny"] if size == TINY else []
    command = [sys.executable, __file__, "--memory-of", f"{top_k},{storage}", *tiny]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def print_memory(size: Size, top_k: int, storage: str) -> None:
    """Print the memory of a history after a hundred steps with all rows written; `memory_of` reads it."""
    history = History(size.samples, size.classes, HEADS)
    rows = synthetic_predictions(size.batch, size.classes, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        step = HistoryStep(TINY, 4, "device", synthetic_predictions(TINY.batch, TINY.classes, seed=0), Path(folder))
        step()  # torch takes its own memory before the measurement
        before = _memory()
        history.configure(HistoryOptions(top_k=top_k, storage=storage), Path(folder))
        state = History(1, size.classes, HEADS, HistoryOptions(top_k=top_k)).to("cpu")
        state.write(torch.zeros(1, dtype=torch.int64), dict.fromkeys(HEADS, rows[:1]))
        state.commit()
        history.load_state_dict(  # one row for all samples, which takes no memory until it is copied
            {
                key: value.expand(size.samples, *value.shape[1:]) if isinstance(value, Tensor) else value
                for key, value in {**state.state_dict(), "num_samples": size.samples}.items()
            }
        )
        for _ in range(2):
            for _ in range(50):
                indices = torch.randint(size.samples, (size.batch,))
                history.read(indices, indices % size.classes)
                history.write(indices, dict.fromkeys(HEADS, rows))
            history.commit()
        after = _memory()
    print(
        json.dumps(
            {
                "peak_mb": round(after["VmHWM"] - before["VmRSS"], 1),
                "own_mb": round(after["RssAnon"] - before["RssAnon"], 1),
            }
        )
    )


def _memory() -> dict[str, float]:
    """The memory of this process in megabytes, as Linux counts it."""
    status = Path("/proc/self/status").read_text()
    return {
        key: int(kilobytes) * 1024 / 1e6 for key, kilobytes in re.findall(r"(VmHWM|VmRSS|RssAnon):\s*(\d+) kB", status)
    }


def measure_accuracy(data_root: str, runs: Path) -> dict[str, Any]:
    """Train with every number of classes and seed, or continue these runs, and collect the results of the runs."""
    from selfkd.recipes.reader import resolve
    from selfkd.runs.train import run

    records = []
    for seed in SEEDS:
        for kept, top_k in TOP.items():
            overrides = {**OVERRIDES, "data.root": data_root, "seed": seed, "history.top_k": top_k}
            folder = run(resolve(RECIPE, {**overrides, "name": f"history_scale/top_{kept}"}), runs)
            scores = folder.scores()
            records.append(
                {
                    "kept": kept,
                    "seed": seed,
                    "accuracy": {split: of["main"]["top1"]["value"] for split, of in scores["last"]["scores"].items()},
                    "images": {split: of["images"] for split, of in scores["splits"].items()},
                    "environment": json.loads(folder.environment_file.read_text()),
                }
            )
    return {"recipe": RECIPE, "overrides": OVERRIDES, "runs": records}


def section(results: Mapping[str, Any]) -> str:
    """The section of the page."""
    parts = {"scale": _scale, "accuracy": _accuracy}
    return "\n\n".join(text(results[part]) for part, text in parts.items() if part in results)


def _scale(scale: Mapping[str, Any]) -> str:
    size, top, made = scale["size"], scale["top_k"], scale["synthetic"]
    forms = [[name, _gigabytes(taken), "", "", ""] for name, taken in scale["dense_bytes"].items()]
    for k, row in top.items():
        error = [f"{row['kept_mass']:.2%}", f"{row['kl_mean']:.4f}", f"{row['kl_99th']:.4f}"]
        forms.append([f"top {k}", _gigabytes(row["bytes"]), *error])
    costs = [
        [
            f"top {k}",
            PLACES[storage],
            f"{place['milliseconds']:.1f}",
            f"{place['relative']:.4%}",
            f"{place['peak_mb']:,.0f}",
            f"{place['own_mb']:,.0f}",
        ]
        for k, row in top.items()
        for storage, place in row["places"].items()
    ]
    default = next((row for k, row in top.items() if k == "12"), next(iter(top.values())))
    worst = max(place["relative"] for row in top.values() for place in row["places"].values())
    passes = size["batch"] // size["pass_of"]
    return "\n\n".join(
        [
            "### ImageNet's size",
            _paragraph(f"""
                {size["samples"]:,} samples, {size["classes"]:,} classes, {len(HEADS)} heads, both generations. The
                predictions are synthetic. Each class is a random direction in 16 dimensions. Each sample lies at the
                direction of its class, moved by noise whose strength differs from sample to sample. Its logits are the
                products with all directions. We chose sharpness and noise so that the mean mass of the most probable
                class, {made["top1_mass"]:.1%}, and of the five most probable classes, {made["top5_mass"]:.1%}, come
                near the top-1 and top-5 accuracy that torchvision states for ResNet-18 (69.8 % and 89.1 % on ImageNet's
                validation images), as in a calibrated network. The mean entropy is {made["entropy_nat"]:.2f} nat. The
                error is KL(written || read) in nat, with {EPSILON:g} added to both, as in DTSKD's loss."""),
            table(forms, ["kept", "both generations (GB)", "mass kept", "KL, mean", "KL, 99th percentile"]),
            _paragraph(f"""
                This table compares one read and one write of a batch of {size["batch"]} with a training step of a plain
                ResNet-18 on images of {size["side"]}x{size["side"]} in float32, which took
                {statistics.median(scale["plain_seconds"]):.1f} s on the same core ({passes} passes of
                {size["pass_of"]} images, whose activations fit in memory). They took turns for
                {len(scale["plain_seconds"])} rounds; times are medians. Memory was measured in another process that
                holds only the history. *Peak* includes the pages of mapped files, which the system can take back; *its
                own* is the process's own memory at the end."""),
            table(costs, ["kept", "where", "ms a step", "of a plain step", "peak (MB)", "its own (MB)"]),
            _paragraph(f"""
                Aims: at most {AIM_GB} GB for both generations by default (top 12), {
                _verdict(default["bytes"] <= AIM_GB * 1e9)
            } ({_gigabytes(default["bytes"])} GB); below {AIM_SHARE:.0%} of a plain step,
                {_verdict(worst < AIM_SHARE)} (at most {worst:.3%}). Files were in the page cache; if they exceed
                main memory, reading waits for the disk. On a GPU a step takes a fraction of this time, and rows must be
                copied from main memory; this is not measured yet. {machine(scale["environment"])}."""),
        ]
    )


def _accuracy(accuracy: Mapping[str, Any]) -> str:
    by_form = {
        kept: {record["seed"]: record["accuracy"]["test"] for record in accuracy["runs"] if record["kept"] == kept}
        for kept in TOP
    }
    everything = by_form["all"]
    rows = []
    for kept, test in by_form.items():
        apart = [value - everything[seed] for seed, value in test.items()]
        paired = "" if kept == "all" else _mean_and_std(apart, "+.2f")
        rows.append([kept, *(f"{value:.2f}" for value in test.values()), _mean_and_std(test.values()), paired])
    noise = statistics.stdev(everything.values())
    means = {kept: statistics.mean(test.values()) for kept, test in by_form.items()}
    furthest = max(abs(mean - means["all"]) for mean in means.values())
    verdict = (
        f"The effect is within the noise: no mean is further from that of all classes ({furthest:.2f} points) than one "
        f"standard deviation of the seeds with all classes ({noise:.2f})."
        if furthest <= noise
        else f"The largest difference of means, {furthest:.2f} points, exceeds one standard deviation of the seeds "
        f"with all classes ({noise:.2f})."
    )
    images, options = accuracy["runs"][0]["images"], accuracy["overrides"]
    return "\n\n".join(
        [
            "### What it changes in a small run",
            _paragraph(f"""
                DTSKD with a quarter-width ResNet-18 on {images["train"]:,} images of CIFAR-100,
                {options["trainer.epochs"]} epochs, bf16; accuracy on the {images["test"]:,} test images after the last
                epoch, in %. The paired difference is that to all classes with the same seed."""),
            table(rows, ["classes kept", *(f"seed {seed}" for seed in everything), "mean ± std", "paired difference"]),
            _paragraph(f"{verdict} {len(everything)} seeds of so small a run show that nothing breaks, no more."),
        ]
    )


def _paragraph(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), 120, break_on_hyphens=False)


def _mean_and_std(values: Any, form: str = ".2f") -> str:
    values = list(values)
    return f"{statistics.mean(values):{form}} ± {statistics.stdev(values):.2f}"


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.2f}"


def _verdict(met: bool) -> str:
    return "met" if met else "missed"


REPORT = Report("history_scale", "scaling.md", section, is_section=True, arguments="DATA_ROOT")


def main() -> int:
    parser = REPORT.parser(__doc__)
    parser.add_argument("data_root", nargs="?", help="folder with CIFAR-100's Parquet files")
    parser.add_argument("--parts", nargs="+", default=["scale", "accuracy"], choices=["scale", "accuracy"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs")
    parser.add_argument("--tiny", action="store_true", help="measure a small history, print it and write nothing")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    size = TINY if arguments.tiny else Size()
    if arguments.memory_of:
        top_k, storage = arguments.memory_of.split(",")
        print_memory(size, int(top_k), storage)
        return 0
    if arguments.tiny:
        print(json.dumps(measure_scale(size, 2), indent=1))
        return 0
    if "accuracy" in arguments.parts and arguments.data_root is None:
        parser.error("DATA_ROOT is needed")
    results = REPORT.read() or {}
    if "scale" in arguments.parts:
        results["scale"] = measure_scale(size, arguments.rounds)
        REPORT.write(results)
    if "accuracy" in arguments.parts:
        results["accuracy"] = measure_accuracy(arguments.data_root, arguments.runs)
        REPORT.write(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
