"""Measure how the number of threads and the way they wait change a training's speed on a CPU, alone and on a busy core.

    python benchmarks/thread_choice.py [--epochs 30] [--rounds 7] [--parts steps command]

*steps* times training steps of small to large networks, with one thread and with one thread per core. Threads wait in
the system's way or in ours. The threshold of the rule in `selfkd.training.threads` comes from this table. *command*
times `selfkd train`, the command of `make train`, with fewer epochs: as it is now, and as it was without the rule. Both
are measured alone, and beside another process that keeps one core busy. This takes about ten minutes on two cores.
Writes results/thread_choice.json after each part, and the section of docs/threads.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

import selfkd
from report import Report, table
from selfkd.cores import available_cores
from selfkd.recipes.demo import DEMO_SEEDS
from selfkd.recipes.reader import resolve
from selfkd.runs.environment import environment
from selfkd.training.threads import MULTIPLY_ADDS_PER_THREAD, count_multiply_adds, worthwhile_threads

CLASSES, SAMPLES = 10, 1000
Case = tuple[int, int, int]
"""Side of an image, width of the network, images in a batch."""
CASES: tuple[Case, ...] = (
    (16, 16, 20),  # the embedded default
    (32, 8, 64),
    (32, 16, 20),
    (32, 16, 64),
    (16, 64, 20),
    (32, 16, 128),
    (32, 32, 64),
    (32, 64, 16),
    (64, 16, 64),
    (32, 64, 64),
)
ACTIVE, PASSIVE = "active at first", "passive"
POLICIES = {
    ACTIVE: {"GOMP_SPINCOUNT": "300000"},  # GNU's, where no policy is set; it goes before the policy
    PASSIVE: {"OMP_WAIT_POLICY": "PASSIVE"},
}
"""The name of a way of waiting, and the environment variables that choose it."""
COMMAND = ("train",)
OLD, NEW = "before", "now"
PLACES = ("quiet", "busy")
_WARM_UP = 2
_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
_LIMIT_SECONDS = 300.0
_COMPUTING = """\
import os
parent = os.getppid()
while os.getppid() == parent:  # it ends with the benchmark, however that ends
    for _ in range(100_000):
        pass
"""


@contextmanager
def beside(place: str) -> Iterator[None]:
    """In the place "busy", another process computes all the time; in the place "quiet", nothing else runs."""
    if place == "quiet":
        yield
        return
    busy = subprocess.Popen([sys.executable, "-c", _COMPUTING])
    try:
        yield
    finally:
        busy.kill()
        busy.wait()


def free_environment(**given: str) -> dict[str, str]:
    """The environment of this process without its variables about threads, and with the given ones."""
    return {**{name: value for name, value in os.environ.items() if name not in _VARIABLES}, **given}


def threads_before() -> int:
    """The number of threads that torch takes by default."""
    command = [sys.executable, "-c", "import torch; print(torch.get_num_threads())"]
    return int(subprocess.run(command, env=free_environment(), capture_output=True, text=True, check=True).stdout)


class Step:
    """A training step of the plain method."""

    def __init__(self, case: Case) -> None:
        side, width, batch = case
        torch.manual_seed(0)
        self.backbone = selfkd.create_backbone("resnet18_cifar", CLASSES, width=width, input_size=side)
        self.method = selfkd.create_method("plain", self.backbone, selfkd.DatasetInfo(SAMPLES, CLASSES))
        self.method.to(memory_format=torch.channels_last)
        images = torch.randn(batch, 3, side, side).to(memory_format=torch.channels_last)
        self.batch = selfkd.Batch(images, torch.arange(batch) % CLASSES)
        self.optimizer = torch.optim.SGD(self.method.parameter_groups(), 0.01, 0.9)
        self.method.begin_epoch(selfkd.Progress(0, 2))

    def __call__(self) -> float:
        """Take a step, and return the seconds that it took."""
        started = time.perf_counter()
        self.optimizer.zero_grad()
        self.method(self.batch, selfkd.Progress(0, 2)).loss.backward()
        self.optimizer.step()
        return time.perf_counter() - started


def time_steps(cases: Sequence[Case], counts: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    """Measure the median seconds of a step for every case and number of threads. The numbers take turns."""
    rows = []
    for case in cases:
        step = Step(case)
        seconds: dict[int, list[float]] = {count: [] for count in counts}
        for turn in range(_WARM_UP + rounds):
            for count in counts:
                torch.set_num_threads(count)
                taken = step()
                if turn >= _WARM_UP:
                    seconds[count].append(taken)
        rows.append(
            {
                "case": list(case),
                "multiply_adds": case[-1] * count_multiply_adds(step.backbone.network, step.backbone.input_size),
                "seconds": {str(count): round(statistics.median(taken), 6) for count, taken in seconds.items()},
            }
        )
    return rows


def measure_steps(counts: Sequence[int], rounds: int, cases: int) -> dict[str, Any]:
    """Run `time_steps` for every way of waiting and in both places, each in a new process."""
    command = [
        sys.executable,
        __file__,
        "--time-steps",
        *map(str, counts),
        "--rounds",
        str(rounds),
        "--cases",
        str(cases),
    ]
    measured: dict[str, Any] = {}
    for policy, variables in POLICIES.items():
        for place in PLACES:
            with beside(place):
                done = subprocess.run(
                    command, env=free_environment(**variables), stdout=subprocess.PIPE, text=True, check=True
                )
            measured[f"{policy}, {place}"] = json.loads(done.stdout)
            print(f"steps, {policy}, {place}: {done.stdout.strip()}", file=sys.stderr, flush=True)
    return measured


def measure_command(threads: int, epochs: int) -> dict[str, Any]:
    """Measure the seconds of `selfkd train` as it was and as it is, in both places.

    Returns: the seconds by form and place; None if it took longer than the limit.
    """
    forms = {
        NEW: (free_environment(), []),
        OLD: (free_environment(**POLICIES[ACTIVE]), [f"trainer.threads={threads}"]),
    }
    measured: dict[str, Any] = {}
    for place in PLACES:
        for form, (variables, options) in forms.items():
            with tempfile.TemporaryDirectory() as runs, beside(place):
                command = [sys.executable, "-m", "selfkd", *COMMAND, f"trainer.epochs={epochs}", *options]
                started = time.perf_counter()
                try:
                    subprocess.run(
                        [*command, "--runs", runs, "--no-progress"],
                        env=variables,
                        capture_output=True,
                        check=True,
                        timeout=_LIMIT_SECONDS,
                    )
                    taken = round(time.perf_counter() - started, 1)
                except subprocess.TimeoutExpired:
                    taken = None
            measured[f"{form}, {place}"] = taken
            print(f"command, {form}, {place}: {taken} s", file=sys.stderr, flush=True)
    return measured


def section(results: Mapping[str, Any]) -> str:
    """The section of the page."""
    parts = []
    if "steps" in results:
        parts.append(_steps_in_words(results["steps"], results["cores"]))
    if "command" in results:
        parts.append(_command_in_words(results))
    parts.append(
        f"{results['cores']} cores, torch {results['environment']['packages']['torch']}, load average "
        f"{results['load']:.1f} at the start."
    )
    return "\n".join(parts)


def _steps_in_words(steps: Mapping[str, Any], cores: int) -> str:
    columns = list(steps)
    few, many = next(iter(steps.values()))[0]["seconds"]
    order = sorted(range(len(steps[columns[0]])), key=lambda row: steps[columns[0]][row]["multiply_adds"])
    cells = []
    for row in order:
        first = steps[columns[0]][row]
        side, width, batch = first["case"]
        gains = [steps[name][row]["seconds"][few] / steps[name][row]["seconds"][many] for name in columns]
        chosen = worthwhile_threads(first["multiply_adds"], cores)
        cells.append(
            [
                f"{side}x{side}, width {width}, batch {batch}",
                f"{first['multiply_adds'] / 1e9:.2f}",
                f"{1e3 * steps[columns[0]][row]['seconds'][few]:.0f}",
                *(f"{gain:.2f}" for gain in gains),
                str(chosen),
            ]
        )
    header = ["ResNet-18", "billion multiply-adds", "ms, 1 thread", *columns, "the rule"]
    return (
        f"Training steps of the plain method: by what factor {many} threads are faster than {few} (below 1: slower). "
        f"*{ACTIVE}* is how GNU's OpenMP waits where nobody says otherwise, *{PASSIVE}* is how selfkd's threads wait; "
        "*busy* is beside one process that computes all the time. *The rule* is the number of threads that it takes "
        f"on this machine: one for every {MULTIPLY_ADDS_PER_THREAD / 1e9:g} billion multiply-adds."
        f"\n\n{table(cells, header)}\n"
    )


def _command_in_words(results: Mapping[str, Any]) -> str:
    measured, command = results["command"], results["command_settings"]

    def seconds(form: str, place: str) -> str:
        taken = measured[f"{form}, {place}"]
        return f"{taken:.0f}" if taken is not None else f"more than {_LIMIT_SECONDS:.0f}"

    rows = [[form, *(seconds(form, place) for place in PLACES)] for form in (OLD, NEW)]
    return (
        f"`selfkd train`, which is the command of `make train`, with {command['epochs']} epochs instead of "
        f"{command['default_epochs']}: {2 * len(DEMO_SEEDS)} trainings of a small ResNet-18, start of the process "
        f"included. *{OLD}* is {command['threads_before']} threads, {ACTIVE}; *{NEW}* is the command as it is."
        f"\n\n{table(rows, ['', *(f'{place}, s' for place in PLACES)])}\n"
    )


REPORT = Report("thread_choice", "threads.md", section, is_section=True)


def main(given: Sequence[str] | None = None) -> int:
    parser = REPORT.parser(__doc__)
    parser.add_argument("--parts", nargs="+", default=["steps", "command"], choices=["steps", "command"])
    parser.add_argument("--rounds", type=int, default=7, help="timed steps of each network (%(default)s)")
    parser.add_argument(
        "--cases", type=int, default=len(CASES), help="number of networks, from the first on (%(default)s)"
    )
    parser.add_argument("--epochs", type=int, default=30, help="epochs of each training of the command (%(default)s)")
    parser.add_argument("--time-steps", type=int, nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args(given)
    if arguments.time_steps:
        print(json.dumps(time_steps(CASES[: arguments.cases], arguments.time_steps, arguments.rounds)))
        return 0
    results = REPORT.read() or {}
    threads = threads_before()
    results |= {"environment": environment(), "cores": available_cores(), "load": round(os.getloadavg()[0], 2)}
    if "steps" in arguments.parts:
        results["steps"] = measure_steps([1, max(2, threads)], arguments.rounds, arguments.cases)
        REPORT.write(results)
    if "command" in arguments.parts:
        results["command_settings"] = {
            "epochs": arguments.epochs,
            "default_epochs": resolve("demo/digits/resnet18/plain").options["trainer"]["epochs"],
            "threads_before": threads,
        }
        results["command"] = measure_command(threads, arguments.epochs)
        REPORT.write(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
