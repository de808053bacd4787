"""Measure the time and memory of a training step of each method, beside the plain network's, on a CPU or a GPU.

    python benchmarks/step_cost.py [--methods plain dtskd] [--precision bf16-mixed] [--compile MODE] [--rounds 5]

A step is forward, backward, optimiser and history, on random images of CIFAR's size with ResNet-18. Each variant takes
turns with the plain step in one process, so that other work on the machine slows both alike. The ratio is the median
over the rounds. Each measurement is printed and kept at once. results/step_cost.json has a record for each device,
precision, compilation, batch and width; docs/step-cost.md is made of them. `--merge FILE` adds the records of another
machine and measures nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfkd import process_environment

os.environ.update(process_environment.variables())  # as the selfkd command does

import torch

import selfkd
from report import Report, machine, table
from selfkd.methods.base import Method
from selfkd.runs.environment import environment
from selfkd.training.allocator import allocator_name

_INTRODUCTION = """\
# What a training step costs

A step is forward, backward, optimiser and history: ResNet-18 on 32x32 images, 100 classes. Each variant takes turns
with the plain step in one process. `relative` divides the time of a step by that of the plain step in the same round;
it is the median over the rounds. Peak memory includes weights, optimiser and activations; on a CPU each variant is
measured in its own process. The layout is channels-last unless the row says otherwise. `teskd, literal` computes the
same function in the order of paper and release (`tests/literal_teskd.py`). It is no longer measured: its rows are from
the commits that they name.

On a CPU, PyTorch puts large tensors into huge pages here (`THP_MEM_ALLOC_ENABLE=1`), as under the `selfkd` command. In
your own script, set this variable before you import torch.

When a large tensor is freed, glibc gives its memory back to the system, and the system clears the pages of the next
one. This takes a good part of a step that makes as many large tensors as TESKD's. jemalloc keeps the memory; PyTorch's
tuning guide advises to load it first. With Debian's package `libjemalloc2`:

    export LD_PRELOAD=libjemalloc.so.2
    export MALLOC_CONF=oversize_threshold:1,background_thread:true,metadata_thp:auto,dirty_decay_ms:-1,muzzy_decay_ms:-1

`selfkd train` logs whether jemalloc is loaded. If it is installed but not loaded, and a training on a CPU has large
tensors, the log says how to load it. `environment.json` names the allocator.
"""

CLASSES, SAMPLES, SIDE = 100, 50_000, 32
YARDSTICK = "plain"
MODES = ("default", "reduce-overhead", "max-autotune")
STEPS_A_ROUND = {"cpu": 1, "cuda": 10}
"""The steps in a round. As in training, nothing waits for a GPU between them."""
AIMS = {("teskd", False): 5.0, ("teskd", True): 4.0, ("dtskd", False): 1.05, ("dtskd", True): 1.05}
"""How many plain steps a method's step may last, by (method, compiled). TESKD has 3.2 times the multiply-adds."""


@dataclass(frozen=True)
class Variant:
    """A method in one form.

    Args:
        method: name of the method.
        options: arguments of the method.
        channels_last: layout of images and weights.
        change: called with the method after it is built.
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
}


class Step:
    """One variant, ready to take training steps.

    Args:
        variant: what is trained.
        batch_size: B.
        precision: "32" or "bf16-mixed".
        device: "cpu" or "cuda".
        width: channels of the network's stem; the papers' is 64.
        mode: of torch.compile, as `trainer.compile` has them; None to leave the method as it is.
    Attributes:
        seconds_to_prepare: the time of the first steps, compilation included.
    """

    def __init__(
        self, variant: Variant, batch_size: int, precision: str, device: str, width: int = 64, mode: str | None = None
    ) -> None:
        torch.manual_seed(0)
        layout = torch.channels_last if variant.channels_last else torch.contiguous_format
        backbone = selfkd.create_backbone("resnet18_cifar", CLASSES, width=width)
        data = selfkd.DatasetInfo(SAMPLES, CLASSES)
        self.method = selfkd.create_method(variant.method, backbone, data, **variant.options)
        variant.change(self.method)
        self.method.to(device, memory_format=layout)
        images = torch.randn(batch_size, 3, SIDE, SIDE, device=device).to(memory_format=layout)
        labels = torch.arange(batch_size, device=device) % CLASSES
        self.batch = selfkd.Batch(images, labels, torch.randperm(SAMPLES)[:batch_size].to(device))
        self.optimizer = torch.optim.SGD(
            self.method.parameter_groups(), 0.01, 0.9, weight_decay=5e-4, nesterov=True, fused=True
        )
        self.autocast = torch.autocast(device, torch.bfloat16, enabled=precision == "bf16-mixed")
        self.synchronise = torch.cuda.synchronize if device == "cuda" else lambda: None
        self.seconds_to_prepare = self._prepare(mode)

    def _prepare(self, mode: str | None) -> float:
        """Take the first steps. The first of them fills a history, so that later steps read it; the others warm up."""
        self.progress = selfkd.Progress(0, 300)
        self.method.begin_epoch(self.progress)
        self._take()
        self.method.end_epoch(self.progress)
        self.progress = selfkd.Progress(1, 300)
        self.method.begin_epoch(self.progress)
        if mode is not None:
            self.method.compile(fullgraph=True, mode=mode)
        return self(2 if mode is None else 4)  # CUDA graphs are recorded in the second and third

    def __call__(self, count: int = 1) -> float:
        """Take steps, and return the seconds that they took."""
        self.synchronise()
        started = time.perf_counter()
        for _ in range(count):
            self._take()
        self.synchronise()
        return time.perf_counter() - started

    def _take(self) -> None:
        torch.compiler.cudagraph_mark_step_begin()
        with self.autocast:
            output = self.method(self.batch, self.progress)
        self.optimizer.zero_grad()
        output.loss.backward()
        self.optimizer.step()
        self.method.after_step(self.batch, output)


def measure(
    names: list[str],
    precision: str,
    device: str,
    *,
    batch_size: int,
    width: int,
    rounds: int,
    mode: str | None = None,
    memory: bool = True,
    keep: Callable[[dict[str, Any]], None] = lambda record: None,
) -> dict[str, Any]:
    """Measure time and memory of variants, each beside the plain step, which comes first.

    Args:
        names: keys of VARIANTS.
        precision, device, batch_size, width, mode: as for `Step`.
        rounds: how often a variant and the plain step take turns.
        memory: whether to measure the peak memory on a CPU.
        keep: called with the record after every variant.
    Returns: the record, without the variants that failed.
    """
    record: dict[str, Any] = {
        "device": device,
        "precision": precision,
        "compiled": mode or False,
        "batch_size": batch_size,
        "width": width,
        "huge_pages": os.environ["THP_MEM_ALLOC_ENABLE"] == "1",
        "jemalloc": device == "cpu" and allocator_name() == "jemalloc",
        "steps_a_round": STEPS_A_ROUND[device],
        "environment": environment(torch.device(device)),
        "rows": {},
    }
    yardstick: Step | None = None
    for name in dict.fromkeys([YARDSTICK, *names]):
        before = _start_of_peak(device)
        try:
            step = Step(VARIANTS[name], batch_size, precision, device, width, mode)
            peak = _peak_since(before, device)
            yardstick = yardstick or step
            row = _row(step, yardstick, rounds, STEPS_A_ROUND[device])
            if memory and device == "cpu" and mode is None:
                peak = memory_of(name, batch_size, precision, width)
        except Exception:  # a compiler may fail with one variant; the others are still measured
            if yardstick is None:
                raise
            print(f"failed: {name}\n{traceback.format_exc()}", flush=True)
            continue
        record["rows"][name] = {**row, "peak_memory_mb": peak}
        print(_line(record, name), flush=True)
        keep(record)
    return record


def _row(step: Step, yardstick: Step, rounds: int, steps: int) -> dict[str, Any]:
    """Measure a variant and the plain step in turns."""
    measured, plain = [], []
    for _ in range(rounds):
        plain.append(yardstick(steps) / steps)
        measured.append(step(steps) / steps if step is not yardstick else plain[-1])
    return {
        "seconds": round(statistics.median(measured), 6),
        "relative": round(statistics.median(m / p for m, p in zip(measured, plain, strict=True)), 3),
        "rounds": [round(value, 6) for value in measured],
        "seconds_to_prepare": round(step.seconds_to_prepare, 1),
    }


def _line(record: dict[str, Any], name: str) -> str:
    """The measurement of a variant in words."""
    row, steps = record["rows"][name], math.ceil(SAMPLES / record["batch_size"])
    return (
        f"{record['device']}, {record['precision']}, {_form(record)}: {name}: {_milliseconds(row)} ms a step, "
        f"{row['relative']:.2f} of plain, {steps * row['seconds']:.2f} s an epoch of {steps} steps, "
        f"peak memory (MB) {_megabytes(row['peak_memory_mb'])}, first steps {row['seconds_to_prepare']:.1f} s"
    )


def _start_of_peak(device: str) -> int:
    """Begin to count the peak memory of a GPU, and return the bytes in use now; 0 on a CPU."""
    if device != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def _peak_since(before: int, device: str) -> float | None:
    """The peak memory of a GPU in megabytes above the bytes that were in use before; None on a CPU."""
    return round((torch.cuda.max_memory_allocated() - before) / 1e6, 1) if device == "cuda" else None


def memory_of(name: str, batch_size: int, precision: str, width: int) -> float:
    """The peak memory of the first steps on a CPU in megabytes, measured in a new process.

    It includes weights and optimiser, but not the libraries.
    """
    command = [sys.executable, __file__, "--memory-of", name, "--batch", str(batch_size), "--width", str(width)]
    command += ["--precision", precision, "--threads", str(torch.get_num_threads())]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def print_memory(name: str, batch_size: int, precision: str, width: int) -> None:
    """Print the number that `memory_of` reads, in its process."""
    before = peak_resident()
    Step(VARIANTS[name], batch_size, precision, "cpu", width)
    print(round(peak_resident() - before, 1))


def peak_resident() -> float:
    """The peak memory of this process in megabytes (Linux)."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) * 1024 / 1e6


def key_of(record: dict[str, Any]) -> tuple[Any, ...]:
    """The values that tell two records apart."""
    return (*(record[key] for key in ("device", "precision", "batch_size", "width")), _form(record))


def merged(records: list[dict[str, Any]], newer: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All records; a newer one replaces an older one with the same key."""
    keys = {key_of(record) for record in newer}
    return [record for record in records if key_of(record) not in keys] + newer


def _form(record: dict[str, Any]) -> str:
    """The compilation and the allocator in words. Older records hold true for the default mode."""
    mode = record["compiled"]
    form = f"compiled ({mode})" if mode in MODES[1:] else "compiled" if mode else "eager"
    return f"{form} with jemalloc" if record.get("jemalloc") else form


def _milliseconds(row: dict[str, Any]) -> str:
    milliseconds = row["seconds"] * 1e3
    return f"{milliseconds:.0f}" if milliseconds >= 100 else f"{milliseconds:.2f}"


def _megabytes(value: float | None) -> str:
    return "not measured" if value is None else f"{value:,.0f}"


def page(records: list[dict[str, Any]]) -> str:
    """The documentation page."""
    sections = [_INTRODUCTION]
    for record in records:
        environment = record["environment"]
        title = f"## {record['device']}, {record['precision']}, {_form(record)}, batch {record['batch_size']}\n"
        rows = [
            [name, _milliseconds(row), f"{row['relative']:.2f}", _megabytes(row["peak_memory_mb"])]
            for name, row in record["rows"].items()
        ]
        rounds = len(record["rows"][YARDSTICK]["rounds"])
        commit = f", code of {environment['commit'][:7]}" if environment.get("commit") else ""
        where = f"{machine(environment)}, {rounds} rounds{commit}."
        header = ["variant", "ms a step", "relative", "peak memory (MB)"]
        sections += [title, table(rows, header), "", where, ""]
    return "\n".join([*sections, "## Aims\n", _against_aims(records)])


def _against_aims(records: Sequence[dict[str, Any]]) -> str:
    """A table of the aims, and whether the records meet them."""
    rows = []
    for (method, compiled), aim in AIMS.items():
        for record in records:
            if bool(record["compiled"]) == compiled and method in record["rows"]:
                relative = record["rows"][method]["relative"]
                form = f"{record['device']}, {_form(record)}, {record['precision']}, batch {record['batch_size']}"
                rows.append([method, form, f"{aim:g}", f"{relative:.2f}", "met" if relative <= aim else "missed"])
    return table(rows, ["variant", "form", "at most", "relative", ""])


REPORT = Report("step_cost", "step-cost.md", page)


def main(given: Sequence[str] | None = None) -> int:
    parser = REPORT.parser(__doc__)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", default="both", choices=["32", "bf16-mixed", "both"])
    parser.add_argument(
        "--methods", nargs="+", default=list(VARIANTS), choices=list(VARIANTS), help="variants to measure"
    )
    parser.add_argument("--compile", choices=MODES, metavar="MODE", help=f"compile the method: {', '.join(MODES)}")
    parser.add_argument("--merge", type=Path, help="only add the records of another machine's step_cost.json")
    parser.add_argument("--memory-of", choices=list(VARIANTS), help=argparse.SUPPRESS)
    arguments = parser.parse_args(given)
    torch.set_num_threads(arguments.threads)
    if arguments.memory_of:
        print_memory(arguments.memory_of, arguments.batch, arguments.precision, arguments.width)
        return 0

    def keep(*newer: dict[str, Any]) -> None:
        REPORT.write(merged(REPORT.read() or [], list(newer)))

    if arguments.merge:
        keep(*json.loads(arguments.merge.read_text()))
        return 0
    sizes = {"batch_size": arguments.batch, "width": arguments.width, "rounds": arguments.rounds}
    for precision in ["32", "bf16-mixed"] if arguments.precision == "both" else [arguments.precision]:
        measure(arguments.methods, precision, arguments.device, mode=arguments.compile, keep=keep, **sizes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
