"""Real trainings, killed with SIGKILL again and again, against the same ones never killed.

    python benchmarks/killed_runs.py [--kills 100] [--folder runs/killed] [--seed 0]

Tiny networks learn digits by `plain`, `dtskd`, `teskd` and `loth`, from images in memory and from files read by two
worker processes, and by `kd` and `dml` from images in memory, with a checkpoint every epoch. A kill of `kd` may come
while its teacher, a run of its own, is trained. A run is started by its command, killed at a random time with all its
workers, started again, killed again, and left to end. Times are uniform over the run's duration; every third kill is
aimed at a checkpoint being written: it follows within milliseconds after anything has changed in the run's folder of
checkpoints. Then weights, optimiser, schedule, history, metrics and scores must be those of the run never killed, bit
for bit. Writes results/killed_runs.json and its section of docs/resume.md; `--page` only writes the section.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from command_server import Command, CommandServer
from generated_section import with_section

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results" / "killed_runs.json"
PAGE = ROOT / "docs" / "resume.md"

RECIPE = "demo/digits/resnet18/plain"
OPTIONS = {
    "backbone.width": 4,
    "trainer.epochs": 10,
    "trainer.evaluate_every": 2,
    "trainer.checkpoint_every": 1,
}
MEMORY = {"data.classes": "[0,1,2,3,4]", "data.train_per_class": 40}
FILES = {"data": "folder", "data.image_size": 16, "data.memory_gb": 0, "loader.workers": 2}
SECOND_NETWORKS = {"kd": {"teacher": "recipe", "teacher.recipe": RECIPE, "teacher.name": "teacher"}}
"""What a method's command says beside its name."""
STAGES = {
    "starting": "before the first epoch of an attempt: reading recipe, data and checkpoint",
    "training": "inside an epoch",
    "evaluating": "measuring accuracy at the end of an epoch, or of the run",
    "writing a checkpoint": "of the last or of the best epoch",
    "finishing": "after the last epoch: writing the network and the scores",
}
LONGEST_AIMED_DELAY = 0.012
"""Seconds between the first change seen in the folder of checkpoints and an aimed kill, at most."""


@dataclass(frozen=True)
class Case:
    """What is trained.

    Args:
        method: its name.
        files: whether images are files read by two workers, else they lie in memory.
    """

    method: str
    files: bool = False

    @property
    def name(self) -> str:
        return f"{self.method}{'-files' if self.files else ''}"

    def command(self, runs: Path, images: Path) -> list[str]:
        """What follows `selfkd` on the command line."""
        data = {**FILES, "data.root": images} if self.files else MEMORY
        second = SECOND_NETWORKS.get(self.method, {})
        options = {**OPTIONS, **data, "method": self.method, **second, "name": self.name}
        overrides = [f"{key}={value}" for key, value in options.items()]
        return ["train", RECIPE, *overrides, "--runs", str(runs), "--no-progress"]


CASES = (
    *(Case(method, files) for method in ("plain", "dtskd", "teskd", "loth") for files in (False, True)),
    *(Case(method) for method in ("kd", "dml")),
)


@dataclass(frozen=True)
class Kill:
    """One kill.

    Args:
        method, files: of the case.
        aimed: at a checkpoint being written.
        seconds: between the start of the attempt and the kill.
        stage: where the process was, one of `STAGES`.
        epochs: that the last checkpoint held, read after the kill.
    """

    method: str
    files: bool
    aimed: bool
    seconds: float
    stage: str
    epochs: int


@dataclass(frozen=True)
class Chain:
    """A run that was killed and continued until it ended.

    Args:
        kills: in order.
        different: what differs from the run never killed; empty if nothing does.
        left_behind: files that the run never killed does not have.
    """

    kills: tuple[Kill, ...]
    different: tuple[str, ...]
    left_behind: tuple[str, ...]


class Reference:
    """A run that is never killed, and the yardstick of those that are.

    Args:
        server: starts commands.
        case: what is trained.
        folder: gets its run and those that are killed.
        images: folder of image files, where the case reads them.
    """

    def __init__(self, server: CommandServer, case: Case, folder: Path, images: Path) -> None:
        self.server, self.case, self.folder, self.images = server, case, folder, images
        folder.mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        status = self._start(folder / "unbroken").wait()
        if status:
            raise RuntimeError(f"{case.name} ended with {status}: {self._log.read_text()}")
        self.seconds = time.perf_counter() - started
        self.outcome = outcome(self._run(folder / "unbroken"))
        self.environment = json.loads((self._run(folder / "unbroken") / "environment.json").read_text())
        self._files = set(_files(self._run(folder / "unbroken")))

    def chains(self, aimed: Sequence[bool], draws: random.Random, longest: int = 4) -> Iterator[Chain]:
        """Runs that are killed as often as asked for in all, and compared.

        Args:
            aimed: of each kill, whether it is aimed at a checkpoint being written.
            draws: of the times.
            longest: kills of one run at most.
        """
        left = list(aimed)
        while left:
            chain = self._chain(left[:longest], draws)
            del left[: len(chain.kills)]
            if chain.kills:
                yield chain

    def _chain(self, aimed: Sequence[bool], draws: random.Random) -> Chain:
        """A run that is killed so many times, fewer if it ends before, and then left to end."""
        runs = self.folder / "broken"
        shutil.rmtree(runs, ignore_errors=True)
        times = sorted(draws.uniform(0, self.seconds) for _ in aimed)
        done: list[Kill] = []
        for position, until in enumerate(times):
            started = time.perf_counter()
            seconds = until - (times[position - 1] if position else 0.0)
            kill = self._kill(runs, seconds, aimed[position], draws)
            if kill is None:  # it ended before; nothing is left to kill
                if not done:
                    self.seconds = time.perf_counter() - started  # the machine is faster than it was
                break
            done.append(kill)
        status = self._start(runs).wait()
        if status:
            raise RuntimeError(f"{self.case.name}, killed, ended with {status}: {self._log.read_text()}")
        different = differences(self.outcome, outcome(self._run(runs)))
        left_behind = sorted(set(_files(self._run(runs))) - self._files)
        return Chain(tuple(done), tuple(different), tuple(left_behind))

    @property
    def _log(self) -> Path:
        return self.folder / "log.txt"

    def _start(self, runs: Path) -> Command:
        return self.server.start(self.case.command(runs, self.images), self._log)

    def _run(self, runs: Path) -> Path:
        return runs / self.case.name / "seed-0"

    def _kill(self, runs: Path, seconds: float, aimed: bool, draws: random.Random) -> Kill | None:
        """Start, wait, kill; None if the run had ended by then."""
        started = time.perf_counter()
        command = self._start(runs)
        delay = draws.uniform(0, LONGEST_AIMED_DELAY)
        ended = command.ended(seconds)
        if aimed and not ended:
            ended = not _changes(self._run(runs) / "checkpoints", command) or command.ended(delay)
        seconds = time.perf_counter() - started
        stage = "" if ended else stage_of(command.kill())
        status = command.wait()
        if status not in (0, -signal.SIGKILL):
            raise RuntimeError(f"{self.case.name}, continued, ended with {status}: {self._log.read_text()}")
        if status == 0:
            return None
        return Kill(self.case.method, self.case.files, aimed, seconds, stage, epochs_done(self._run(runs)))


def _changes(folder: Path, command: Command) -> bool:
    """Wait until anything in the folder is new, gone or of another size; False if the command ends before."""
    before = dict(_sizes(folder))
    while dict(_sizes(folder)) == before:
        if command.ended(0.0002):
            return False
    return True


def _sizes(folder: Path) -> Iterator[tuple[str, int]]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                yield entry.path, entry.stat().st_ino if entry.is_dir() else entry.stat().st_size
                if entry.is_dir():
                    yield from _sizes(Path(entry.path))
    except FileNotFoundError:
        return


def _files(run: Path) -> list[str]:
    return [str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()]


def stage_of(stack: str) -> str:
    """Where a process was, one of `STAGES`, from its stacks as faulthandler writes them."""
    signs = {
        "writing a checkpoint": (" in save_checkpoint", " in write_best", " in keep_newest"),
        "evaluating": (" in evaluate",),
        "finishing": ("/runs/finish.py",),
        "training": ("/fit_loop.py",),
    }
    return next((stage for stage, marks in signs.items() if any(mark in stack for mark in marks)), "starting")


def epochs_done(run: Path) -> int:
    """Epochs that a run's last checkpoint holds."""
    from selfkd.runs.run_folder import RunFolder
    from selfkd.training import checkpoint_files

    return checkpoint_files.epochs_done(RunFolder(run).checkpoints)


def training_state(run: Path) -> dict[str, Any]:
    """What the last checkpoint holds of the training itself. Only this and `epochs_done` know how it is read."""
    from selfkd.runs.run_folder import RunFolder
    from selfkd.training.checkpoint_files import BEST_KEY, MEMORIES_KEY, newest_checkpoint, read_checkpoint

    newest = newest_checkpoint(RunFolder(run).checkpoints)
    assert newest is not None
    checkpoint = read_checkpoint(newest)
    keys = ("epoch", "global_step", "state_dict", "optimizer_states", "lr_schedulers", BEST_KEY, MEMORIES_KEY)
    return {key: checkpoint[key] for key in keys}


def outcome(run: Path) -> dict[str, Any]:
    """All that two runs of one recipe must share, by name: bytes, numbers, tensors."""
    from selfkd.runs.run_folder import RunFolder
    from selfkd.training.epoch_log import read_epoch_log

    folder = RunFolder(run)
    rows = read_epoch_log(folder.metrics_file)
    log = [{key: value for key, value in row.items() if not key.startswith("seconds/")} for row in rows]
    scores = {key: value for key, value in folder.scores().items() if key != "seconds"}
    parts = {"metrics.csv": log, "scores.json": scores, "last checkpoint": training_state(run)}
    return {"model.safetensors": folder.network_file.read_bytes(), **dict(_flat(parts))}


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _flat(part, f"{name}/{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        yield f"{name}: length", len(value)
        for position, part in enumerate(value):
            yield from _flat(part, f"{name}/{position}")
    else:
        yield name, value


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Names of what differs, by so little as a bit, or stands on one side only."""
    names = [*one, *(name for name in other if name not in one)]
    return [name for name in names if name not in one or name not in other or not _same(one[name], other[name])]


def _same(one: Any, other: Any) -> bool:
    import torch

    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        # As bytes, which tell 0 from -0 and know a NaN again.
        rows = [each.clone(memory_format=torch.contiguous_format).flatten() for each in (one, other)]
        alike = one.dtype == other.dtype and one.shape == other.shape
        return alike and torch.equal(*(row.view(torch.uint8) for row in rows))
    return type(one) is type(other) and bool(one == other)


def write_images(folder: Path, train: int = 40, test: int = 20) -> Path:
    """The digits 0 to 4 as PNG files in class folders, so many of each for training and testing; returns the folder."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    scans, labels = load_digits(return_X_y=True)
    for label in range(5):
        for rank, position in enumerate(np.flatnonzero(labels == label)[: train + test]):
            file = folder / ("train" if rank < train else "test") / str(label) / f"{position}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.uint8(scans[position].reshape(8, 8) * (255 / 16))).resize((16, 16)).save(file)
    return folder


def measure(cases: Sequence[Case], kills: int, folder: Path, seed: int) -> dict[str, Any]:
    """Kill until every case has had its share of the kills."""
    images = write_images(folder / "images")
    chains: list[Chain] = []
    with CommandServer() as server:
        for position, case in enumerate(cases):
            wanted = kills // len(cases) + (position < kills % len(cases))
            reference = Reference(server, case, folder / case.name, images)
            draws = random.Random(f"{seed}, {case.name}")  # noqa: S311
            for chain in reference.chains([each % 3 == 2 for each in range(wanted)], draws):
                chains.append(chain)
                told = "; ".join(f"{kill.stage}, {kill.epochs} epochs saved" for kill in chain.kills)
                print(f"{case.name}: {', '.join(chain.different[:5]) or 'equal'} ({told})", flush=True)
            environment = reference.environment
            shutil.rmtree(folder / case.name)
    return {
        "command": f"python benchmarks/killed_runs.py --kills {kills} --seed {seed}",
        "seed": seed,
        "recipe": {"recipe": RECIPE, **OPTIONS, "in memory": MEMORY, "files": FILES},
        "chains": [asdict(chain) for chain in chains],
        "environment": environment,
    }


def section(results: dict[str, Any]) -> str:
    """The section of the page, made of nothing but the results."""
    chains = results["chains"]
    kills = [kill for chain in chains for kill in chain["kills"]]
    equal = sum(not chain["different"] for chain in chains)
    counts = Counter((kill["method"], kill["stage"]) for kill in kills)
    methods = list(dict.fromkeys(kill["method"] for kill in kills))
    rows = [
        [method, *(counts[method, stage] for stage in STAGES), sum(counts[method, stage] for stage in STAGES)]
        for method in methods
    ]
    rows.append(["all", *(sum(counts[method, stage] for method in methods) for stage in STAGES), len(kills)])
    table = tabulate(rows, ["method", *STAGES, "kills"], tablefmt="github")
    where = "".join(f"- *{stage}*: {meaning}.\n" for stage, meaning in STAGES.items())
    files = sum(kill["files"] for kill in kills)
    aimed = sum(kill["aimed"] for kill in kills)
    different = sorted({name for chain in chains for name in chain["different"]})
    said = f"\nWhat differed: {', '.join(different[:20])}.\n" if different else ""
    left = Counter(name for chain in chains for name in chain["left_behind"])
    rest = f"\nFiles left behind by kills: {', '.join(sorted(left))}.\n" if left else ""
    environment = results["environment"]
    return (
        f"{len(kills)} kills of {len(chains)} runs, {files} of them of runs whose images are read by worker processes, "
        f"{aimed} aimed at a checkpoint being written. **{equal} of {len(chains)} runs ended with the weights, "
        f"optimiser state, schedule, history, metrics and scores of a run never killed, bit for bit.**\n{said}{rest}\n"
        f"Where the kills fell:\n\n{table}\n\n{where}\n"
        f"Digits, a tiny ResNet-18, {results['recipe']['trainer.epochs']} epochs, a checkpoint every epoch; torch "
        f"{environment['packages']['torch']}, {environment['device']}, {environment['threads']} thread(s).\n\n"
        f"Written by `{results['command']}` from `results/{RESULTS.name}`.\n"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--folder", type=Path, default=Path("runs") / "killed", help="for the runs; emptied afterwards")
    parser.add_argument("--seed", type=int, default=0, help="of the times")
    parser.add_argument("--page", action="store_true", help="only write the section from the results")
    arguments = parser.parse_args()
    if not arguments.page:
        results = measure(CASES, arguments.kills, arguments.folder, arguments.seed)
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    results = json.loads(RESULTS.read_text())
    PAGE.write_text(with_section(PAGE.read_text(), "killed_runs", section(results)))
    print(section(results))
    return int(any(chain["different"] for chain in results["chains"]))


if __name__ == "__main__":
    sys.exit(main())
