"""Give every verb bad input: hostile options, recipes, run folders, data, images, tables, names, paths and flags.

    python benchmarks/fuzz.py [--seed 0] [--folder runs/fuzz]

First, a tiny finished run, a few images and a table are made. Then every input is given to a command in a process of
its own. The command must end by itself within a minute, with exit status 0, 1 or 2, without a traceback, and without a
control code of a terminal. Errors that no code foresaw ("unforeseen error") are counted apart. Writes results/fuzz.json
and lists the inputs that failed; the exit status is 1 if there are any.
"""

from __future__ import annotations

import re
import resource
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Queue
from typing import Any

from command_server import CommandServer
from fuzz_inputs import Ground, Input, inputs
from report import Report

REPORT = Report("fuzz")
LONGEST_SECONDS = 60.0
STATUSES = frozenset({0, 1, 2})
NET = "unforeseen error"
LARGEST_MEMORY = 12 * 2**30
"""The address space of a command in bytes, so that no input can take the memory of the whole machine."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Args:
        verb, about: the input's.
        arguments: the words of the command, without folders of this machine.
        status: exit status; None if it had not ended after a minute.
        seconds: the duration of the command.
        faults: the faults of its end and of its output.
        caught_by_the_net: whether its error was one that no code foresaw.
        said: the end of its output if there was a fault or such an error, else empty.
    """

    verb: str
    about: str
    arguments: tuple[str, ...]
    status: int | None
    seconds: float
    faults: tuple[str, ...]
    caught_by_the_net: bool
    said: str


_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def faults_of(status: int | None, said: str) -> tuple[str, ...]:
    """The faults of a command.

    Args:
        status: its exit status; None if it had not ended by itself.
        said: its output.
    """
    faults = []
    if status is None:
        faults.append(f"still ran after {LONGEST_SECONDS:.0f} s")
    elif status not in STATUSES:
        faults.append(f"exit status {status}")
    if "Traceback (most recent call last)" in said:
        faults.append("traceback")
    if _CONTROL.search(said):
        faults.append("control codes")
    return tuple(faults)


def without_places(text: str, folder: Path) -> str:
    """Replace the folders of this machine in a text.

    Args:
        text: an argument or the output of a command.
        folder: the folder of the inputs.
    """
    places = {folder: "INPUTS", REPORT.root: "REPOSITORY", Path(sys.prefix): "PYTHON", Path(sys.base_prefix): "PYTHON"}
    for place in sorted(places, key=lambda each: -len(str(each))):
        text = text.replace(str(place), places[place])
    return text


def tried(server: CommandServer, given: Input, folder: Path) -> Outcome:
    """Run the command with one input, in a new folder that is removed afterwards."""
    folder.mkdir(parents=True)
    log = folder.with_name(folder.name + ".txt")
    arguments: Sequence[str] = [given.verb]
    try:
        arguments = [*map(str, given.prepare(folder))]
        began = time.perf_counter()
        command = server.start(arguments, log, folder)
        status = command.wait() if command.ended(LONGEST_SECONDS) else None
        if status is None:
            command.kill()
            command.wait()
        seconds = time.perf_counter() - began
        said = log.read_text(encoding="utf-8", errors="replace")
        for file in folder.parent.glob(f"{log.name}*"):
            file.unlink()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    faults, caught = faults_of(status, said), NET in said
    words = [without_places(word, folder.parent) for word in arguments]
    shown = tuple(word if len(word) < 100 else f"{word[:100]}..." for word in words)
    end = without_places(said, folder.parent)[-600:] if faults or caught else ""
    return Outcome(given.verb, given.about, shown, status, round(seconds, 2), faults, caught, end)


def limit_memory() -> None:
    """Limit the address space of this process and of those that it starts."""
    resource.setrlimit(resource.RLIMIT_AS, (LARGEST_MEMORY, LARGEST_MEMORY))


def measure(seed: int, folder: Path, servers: int = 2, number: int | None = None) -> dict[str, Any]:
    """Try all inputs, or the first `number` of them."""
    from selfkd.runs.environment import environment

    shutil.rmtree(folder, ignore_errors=True)
    folder = folder.resolve()
    folder.mkdir(parents=True)
    began = time.perf_counter()
    free: Queue[CommandServer] = Queue()
    outcomes: list[Outcome] = []

    def one(numbered: tuple[int, Input]) -> Outcome:
        server = free.get()
        try:
            return tried(server, numbered[1], folder / f"input-{numbered[0]}")
        finally:
            free.put(server)

    with ExitStack() as opened:
        # Commands write the logs of unforeseen errors into TMPDIR.
        started = [opened.enter_context(CommandServer(limit_memory, {"TMPDIR": str(folder)})) for _ in range(servers)]
        ground = Ground.made(started[0], folder)
        for server in started:
            free.put(server)
        pool = opened.enter_context(ThreadPoolExecutor(servers))
        for outcome in pool.map(one, enumerate(inputs(ground, seed)[:number])):
            outcomes.append(outcome)
            if outcome.faults or outcome.caught_by_the_net:
                print(f"{outcome.verb} ({outcome.about}): {', '.join(outcome.faults) or NET}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    return {
        "command": f"python benchmarks/fuzz.py --seed {seed}",
        "seed": seed,
        "environment": environment(),
        "seconds": round(time.perf_counter() - began),
        "inputs": len(outcomes),
        "by_verb": dict(sorted(Counter(outcome.verb for outcome in outcomes).items())),
        "by_status": {str(status): count for status, count in Counter(each.status for each in outcomes).items()},
        "failed": [asdict(outcome) for outcome in outcomes if outcome.faults],
        "caught_by_the_net": [asdict(each) for each in outcomes if each.caught_by_the_net and not each.faults],
        "slowest": [[each.about, each.seconds] for each in sorted(outcomes, key=lambda each: -each.seconds)[:5]],
    }


def main() -> int:
    parser = REPORT.parser(__doc__)
    parser.add_argument("--seed", type=int, default=0, help="seed of the random inputs (%(default)s)")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("runs") / "fuzz",
        help="a folder that is emptied before and afterwards (%(default)s)",
    )
    parser.add_argument("--number", type=int, help="try only this many inputs, and write nothing to results/")
    arguments = parser.parse_args()
    results = measure(arguments.seed, arguments.folder, number=arguments.number)
    if arguments.number is None:
        REPORT.write(results)
    failed, caught = len(results["failed"]), len(results["caught_by_the_net"])
    print(f"{results['inputs']} inputs in {results['seconds']} s: {failed} failed, {caught} were caught by the net")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
