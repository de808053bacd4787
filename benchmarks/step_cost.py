"""What a training step of each method costs: time and memory beside the plain network's, on a CPU or a GPU.

    python benchmarks/step_cost.py [--threads 1] [--batch 128] [--rounds 5] [--compile]

A step is forward, backward, optimiser and history, on CIFAR-sized random images with ResNet-18. All variants take
turns, step by step, in one process, so that what else the machine does hits all alike; the ratio is the median over the
rounds. Peak memory is measured in a process of its own for each variant. Adds a record to results/step_cost.json, one
for each device, precision, compilation, batch and width, and writes docs/step-cost.md; `--page` only writes the page,
`--merge FILE` first adds what another machine measured.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # as the selfkd command does

import torch
from tabulate import tabulate

import selfkd
from literal_teskd import literal
from selfkd.methods.base import Method
from selfkd.runs.environment import environment

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results" / "step_cost.json"
PAGE = ROOT / "docs" / "step-cost.md"
_INTRODUCTION = """\
# What a training step costs

A step is forward, backward, optimiser and history: ResNet-18 on 32x32 images, 100 classes. The variants take turns in
one process; `relative` is the median over the rounds of a step's time by the plain step's in the same round. Peak
memory holds weights, optimiser and activations of two steps, in a process of its own. `teskd, literal` computes the
same function in the order of paper and release. Layouts are channels-last where nothing else is said.

On a CPU, PyTorch takes its large tensors in huge pages here (`THP_MEM_ALLOC_ENABLE=1`), as under the `selfkd` command;
in your own script set it before torch is imported.
"""

CLASSES, SAMPLES, SIDE = 100, 50_000, 32
YARDSTICK = "plain"
AIMS = {("teskd", False): 5.0, ("teskd", True): 4.0, ("dtskd", False): 1.05, ("dtskd", True): 1.05}
"""Times of a plain step that a method's should stay below, (method, compiled); TESKD's multiply-adds allow 3.2."""


@dataclass(frozen=True)
class Variant:
    """A method in one form.

    Args:
        method: its name.
        options: its arguments.
        channels_last: layout of images and weights.
        change: what is done to the method after it is built.
    """

    method: str
    options: dict[str, Any] = field(default_factory=dict)
    channels_last: bool = True
    change: Callable[[Method], object] = lambda method: None


VARIANTS = {
    "plain": Variant("plain"),
    "plain, contiguous": Variant("plain", channels_last=False),
    "ps_kd": Variant("ps_kd"),
    "dtskd": Variant("dtskd"),
    "loth": Variant("loth"),
    "teskd": Variant("teskd"),
    "teskd, literal": Variant("teskd", change=lambda method: literal(method.students)),
    "teskd, literal, contiguous": Variant("teskd", channels_last=False, change=lambda method: literal(method.students)),
}


class Step:
    """One variant, ready to take training steps.

    Args:
        variant: what is trained.
        batch_size: B.
        precision: "32" or "bf16-mixed".
        device: "cpu" or "cuda".
        width: channels of the network's stem; the papers' is 64.
        compiled: compile the objective (inductor, static shapes).
    """

    def __init__(
        self, variant: Variant, batch_size: int, precision: str, device: str, width: int = 64, compiled: bool = False
    ) -> None:
        torch.manual_seed(0)
        layout = torch.channels_last if variant.channels_last else torch.contiguous_format
        backbone = selfkd.create_backbone("resnet18_cifar", CLASSES, width=width)
        data = selfkd.DatasetInfo(SAMPLES, CLASSES)
        self.method = selfkd.create_method(variant.method, backbone, data, **variant.options)
        variant.change(self.method)
        self.method.to(device, memory_format=layout)
        if self.method.history is not None:
            self.method.history.to(device)
        images = torch.randn(batch_size, 3, SIDE, SIDE, device=device).to(memory_format=layout)
        labels = torch.arange(batch_size, device=device) % CLASSES
        self.batch = selfkd.Batch(images, labels, torch.arange(batch_size, device=device))
        self.progress = selfkd.Progress(1, 300)
        self.optimizer = torch.optim.SGD(
            self.method.parameter_groups(), 0.01, 0.9, weight_decay=5e-4, nesterov=True, fused=True
        )
        self.autocast = torch.autocast(device, torch.bfloat16, enabled=precision == "bf16-mixed")
        self.objective = torch.compile(self.method.forward, dynamic=False) if compiled else self.method
        self.synchronise = torch.cuda.synchronize if device == "cuda" else lambda: None
        self.method.begin_epoch(self.progress)

    def __call__(self) -> float:
        """Take one step; the seconds it took."""
        self.synchronise()
        started = time.perf_counter()
        with self.autocast:
            output = self.objective(self.batch, self.progress)
        self.optimizer.zero_grad()
        output.loss.backward()
        self.optimizer.step()
        self.method.after_step(self.batch, output)
        self.synchronise()
        return time.perf_counter() - started


def measure(
    names: list[str],
    precision: str,
    device: str,
    *,
    batch_size: int,
    width: int,
    rounds: int,
    compiled: bool = False,
    memory: bool = True,
) -> dict[str, Any]:
    """Time and memory of the named variants, taking turns."""
    steps = {name: Step(VARIANTS[name], batch_size, precision, device, width, compiled) for name in names}
    for _ in range(2):
        for step in steps.values():
            step()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            seconds[name].append(step())
    yardstick = seconds[YARDSTICK]
    del steps
    with_memory = memory and not compiled
    rows = {
        name: {
            "seconds": round(statistics.median(measured), 4),
            "relative": round(statistics.median(m / p for m, p in zip(measured, yardstick, strict=True)), 3),
            "rounds": [round(value, 4) for value in measured],
            "peak_memory_mb": memory_of(name, batch_size, precision, device, width) if with_memory else None,
        }
        for name, measured in seconds.items()
    }
    return {
        "device": device,
        "precision": precision,
        "compiled": compiled,
        "batch_size": batch_size,
        "width": width,
        "huge_pages": os.environ["THP_MEM_ALLOC_ENABLE"] == "1",
        "environment": environment(torch.device(device)),
        "rows": rows,
    }


def memory_of(name: str, batch_size: int, precision: str, device: str, width: int) -> float:
    """Peak megabytes of two steps in a process of its own, weights and optimiser included, the libraries not."""
    command = [sys.executable, __file__, "--memory-of", name, "--batch", str(batch_size), "--width", str(width)]
    command += ["--precision", precision, "--device", device, "--threads", str(torch.get_num_threads())]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def print_memory(name: str, batch_size: int, precision: str, device: str, width: int) -> None:
    """What `memory_of` asks of its process."""
    before = peak_resident()
    step = Step(VARIANTS[name], batch_size, precision, device, width)
    for _ in range(2):
        step()
    if device == "cuda":
        print(round(torch.cuda.max_memory_allocated() / 1e6, 1))
    else:
        print(round(peak_resident() - before, 1))


def peak_resident() -> float:
    """The most memory that this process has held, in megabytes (Linux)."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) * 1024 / 1e6


def key_of(record: dict[str, Any]) -> tuple[Any, ...]:
    """What distinguishes two records of the results."""
    return tuple(record[key] for key in ("device", "precision", "compiled", "batch_size", "width"))


def merged(records: list[dict[str, Any]], newer: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Both; of two with the same key the newer."""
    keys = {key_of(record) for record in newer}
    return [record for record in records if key_of(record) not in keys] + newer


def _write(records: list[dict[str, Any]]) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(records, indent=1) + "\n")


def _megabytes(value: float | None) -> str:
    return "not measured" if value is None else f"{value:,.0f}"


def page(records: list[dict[str, Any]]) -> str:
    """The documentation page, made of nothing but the results."""
    sections = [_INTRODUCTION]
    for record in records:
        machine = record["environment"]
        form = "compiled" if record["compiled"] else "eager"
        title = f"## {record['device']}, {record['precision']}, {form}, batch {record['batch_size']}\n"
        rows = [
            [name, f"{row['seconds'] * 1e3:.0f}", f"{row['relative']:.2f}", _megabytes(row["peak_memory_mb"])]
            for name, row in record["rows"].items()
        ]
        rounds = len(record["rows"][YARDSTICK]["rounds"])
        torch_version = machine["packages"]["torch"]
        where = f"{machine['device']}, {machine['threads']} thread(s), torch {torch_version}, {rounds} rounds."
        header = ["variant", "ms a step", "relative", "peak memory (MB)"]
        sections += [title, tabulate(rows, header, tablefmt="github", disable_numparse=True), "", where, ""]
    sections += ["## Aims\n", _against_aims(records), ""]
    sections.append(f"Written by `python benchmarks/step_cost.py` from `results/{RESULTS.name}`.\n")
    return "\n".join(sections)


def _against_aims(records: Sequence[dict[str, Any]]) -> str:
    """What was aimed at on a CPU, and the records that meet or miss it."""
    rows = []
    for (method, compiled), aim in AIMS.items():
        for record in records:
            if record["device"] == "cpu" and record["compiled"] == compiled and method in record["rows"]:
                relative = record["rows"][method]["relative"]
                form = f"{'compiled' if compiled else 'eager'}, {record['precision']}, batch {record['batch_size']}"
                rows.append([method, form, f"{aim:g}", f"{relative:.2f}", "met" if relative <= aim else "missed"])
    header = ["variant", "form", "at most", "relative", ""]
    return tabulate(rows, header, tablefmt="github", disable_numparse=True)


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", default=None, help="32 or bf16-mixed; both by default")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--page", action="store_true", help="only write the page from the results")
    parser.add_argument("--merge", type=Path, help="only add the records of another machine's step_cost.json")
    parser.add_argument("--memory-of", choices=list(VARIANTS), help=argparse.SUPPRESS)
    arguments = parser.parse_args(given)
    torch.set_num_threads(arguments.threads)
    if arguments.memory_of:
        print_memory(arguments.memory_of, arguments.batch, arguments.precision, arguments.device, arguments.width)
        return 0
    records = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    if arguments.merge:
        records = merged(records, json.loads(arguments.merge.read_text()))
        _write(records)
    elif not arguments.page:
        names = list(dict.fromkeys([YARDSTICK, *arguments.variants]))
        for precision in [arguments.precision] if arguments.precision else ["32", "bf16-mixed"]:
            sizes = {"batch_size": arguments.batch, "width": arguments.width, "rounds": arguments.rounds}
            record = measure(names, precision, arguments.device, compiled=arguments.compile, **sizes)
            records = merged(records, [record])
            _write(records)
    PAGE.write_text(page(records))
    return 0


if __name__ == "__main__":
    sys.exit(main())
