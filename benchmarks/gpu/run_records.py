"""Records of the queue: what is kept of a finished run, how it is checked, and where it lies in results/gpu/."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from selfkd.recipes.recipe import MACHINE, Recipe
from selfkd.runs.records import read_json, write_json
from selfkd.runs.run_folder import RunFolder
from selfkd.training.epoch_log import read_epoch_log

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results" / "gpu"
WHOLE = {"train": 50_000, "test": 10_000}
"""Images of CIFAR-100."""
STOPPED = 75
"""Exit status of a training that was stopped and can be continued (EX_TEMPFAIL of sysexits.h)."""

_USAGE = "queue_usage.json"
_RECORD = "queue_record.json"
_PACES = "paces.json"
_BUNDLE = "queue.json"
# Twice evaluated, the same weights may disagree on a few images, since convolutions on a GPU differ in rounding.
_EVALUATION_TOLERANCE = 0.1


@dataclass(frozen=True)
class Pace:
    """How fast a recipe trains, by the wall clock: evaluation and checkpoints included, start and end not.

    Args:
        recipe: the run's name.
        device: what trained.
        parallel: how many trainings shared the device.
        seconds_per_epoch: mean over the epochs.
        epochs: how many were measured.
        compiled: "false", or the mode of torch.compile.
        seconds_to_start: until the epochs had this pace: imports, data, compilation; None if not seen.
    """

    recipe: str
    device: str
    parallel: int
    seconds_per_epoch: float
    epochs: int
    compiled: str = "false"
    seconds_to_start: float | None = None


class Paces:
    """The measured paces of one device; the latest of a recipe counts."""

    def __init__(self, device: str, paces: Iterable[Pace] = ()) -> None:
        self.device = device
        self._seconds: dict[tuple[str, str, int], float] = {}
        self._to_start: dict[tuple[str, str], float] = {}
        for pace in paces:
            self.add(pace)

    def add(self, pace: Pace) -> None:
        """Note a measurement; one of another device is left out."""
        if pace.device == self.device:
            self._seconds[pace.recipe, pace.compiled, pace.parallel] = pace.seconds_per_epoch
            if pace.seconds_to_start is not None:
                self._to_start[pace.recipe, pace.compiled] = pace.seconds_to_start

    def seconds_to_start(self, recipe: str, compiled: str = "false") -> float | None:
        """Measured, or None."""
        return self._to_start.get((recipe, compiled))

    def seconds_per_epoch(self, recipe: str, parallel: int, compiled: str = "false") -> float | None:
        """Measured, or None; from fewer side by side it is scaled as if the device were full with one."""
        known = {p: seconds for (*key, p), seconds in self._seconds.items() if key == [recipe, compiled]}
        if not known:
            return None
        if parallel in known:
            return known[parallel]
        nearest = min(known, key=lambda p: abs(p - parallel))
        return known[nearest] * max(1, parallel / nearest)


def device_name() -> str:
    """What trains here."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def note_usage(folder: RunFolder) -> None:
    """Add this process to what the run used so far: starts, and on a GPU the peak memory of its tensors."""
    if not folder.path.is_dir():
        return
    file = folder.path / _USAGE
    before: dict[str, Any] = read_json(file) if file.exists() else {"starts": 0, "peak_memory_mb": None}
    peak = before["peak_memory_mb"]
    if torch.cuda.is_available():
        peak = max(peak or 0.0, round(torch.cuda.max_memory_allocated() / 1e6, 1))
    write_json(file, {"starts": before["starts"] + 1, "peak_memory_mb": peak})


@functools.cache
def source_digest(root: Path = ROOT) -> str:
    """SHA-256 of the package's source, which says where no repository is at hand what code trained."""
    digest = hashlib.sha256()
    package = root / "src" / "selfkd"
    for file in sorted(file for ending in ("py", "yaml") for file in package.rglob(f"*.{ending}")):
        digest.update(file.relative_to(package).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def experiment_of(recipe: Recipe) -> dict[str, Any]:
    """What was trained, every option; not where the data lay."""
    return {key: value for key, value in recipe.flat().items() if key not in MACHINE and key != "published"}


def finished_record(folder: RunFolder, recipe: Recipe, pace: Pace | None) -> dict[str, Any]:
    """The record of a finished run, made when it is first asked for and kept in the run's folder.

    Args:
        folder: of the run.
        recipe: what was trained.
        pace: measured while it trained, or None.
    """
    file = folder.path / _RECORD
    if not file.exists():
        usage = folder.path / _USAGE
        record = {
            "experiment": experiment_of(recipe),
            "scores": folder.scores(),
            "epochs": read_epoch_log(folder.metrics_file),
            "environment": read_json(folder.environment_file),
            "data": read_json(folder.data_file),
            "source": source_digest(),
            "pace": None if pace is None else asdict(pace),
            "compiled": recipe.options["trainer"]["compile"],
            "usage": read_json(usage) if usage.exists() else None,
        }
        write_json(file, record)
    record = read_json(file)
    assert isinstance(record, dict)
    return record


def faults_of(record: Any, recipe: Recipe) -> list[str]:
    """What is wrong with a record of this recipe, in words; nothing if it can be trusted."""
    keys = {"experiment", "scores", "epochs", "environment", "data", "source", "pace", "compiled", "usage"}
    if not isinstance(record, dict) or set(record) != keys:
        return [f"it must be a mapping with the keys {', '.join(sorted(keys))}"]
    expected = json.loads(json.dumps(experiment_of(recipe)))
    experiment, scores, epochs = record["experiment"], record["scores"], record["epochs"]
    faults = [
        f"{key} is {experiment.get(key)!r}, the recipe has {expected.get(key)!r}"
        for key in dict.fromkeys((*expected, *experiment))
        if experiment.get(key) != expected.get(key)
    ]
    if [row.get("epoch") for row in epochs] != list(range(1, recipe.options["trainer"]["epochs"] + 1)):
        return [*faults, f"it holds {len(epochs)} epochs, not each of the recipe's once"]
    if not all(math.isfinite(value) for row in epochs for value in row.values()):
        faults.append("an epoch holds a number that is not finite")
    for split, images in WHOLE.items():
        found = scores["splits"][split]["images"]
        if found != images and not recipe.name.startswith("tiny/"):
            faults.append(f"its {split} split has {found} images, CIFAR-100's {images}")
    return [*faults, *_unlike_the_log("last", scores["last"], epochs), *_faults_of_best(scores, epochs)]


def _unlike_the_log(which: str, epoch_scores: Mapping[str, Any], epochs: Sequence[Mapping[str, float]]) -> list[str]:
    """Heads that scored otherwise than the log says of that epoch."""
    faults = []
    for head, metrics in epoch_scores["scores"]["test"].items():
        logged = epochs[epoch_scores["epoch"] - 1].get(f"test/top1/{head}", math.nan)
        scored = metrics["top1"]["value"]
        if not abs(logged - scored) <= _EVALUATION_TOLERANCE:
            faults.append(f"{head} scored {scored} after the {which} epoch, of which the log says {logged}")
    return faults


def _faults_of_best(scores: Mapping[str, Any], epochs: Sequence[Mapping[str, float]]) -> list[str]:
    """What is wrong with the best epoch."""
    best, after = scores["best"], scores["selection"]["after_epoch"]
    if not after < best["epoch"] <= len(epochs):
        return [f"its best epoch is {best['epoch']}, sought after epoch {after} of {len(epochs)}"]
    highest = max(row.get("test/top1/main", -math.inf) for row in epochs[after:])
    logged = epochs[best["epoch"] - 1].get("test/top1/main", math.nan)
    worse = [] if logged == highest else [f"main has {logged} in its best epoch, {highest} in another"]
    return [*worse, *_unlike_the_log("best", best, epochs)]


def record_file(results: Path, name: str, seed: int) -> Path:
    """Where the record of a run lies."""
    return results / name / f"seed-{seed}.json"


def read_records(results: Path = RESULTS) -> Iterator[dict[str, Any]]:
    """All records of the repository, by recipe and seed."""
    for file in sorted(results.rglob("seed-*.json")):
        yield read_json(file)


def read_paces(folder: Path) -> list[Pace]:
    """The paces that a folder keeps, results/gpu/ or that of all runs."""
    file = folder / _PACES
    return [Pace(**pace) for pace in read_json(file)] if file.exists() else []


def add_paces(folder: Path, paces: Iterable[Pace]) -> None:
    """Keep paces in a folder; one measured anew replaces the older."""
    kept = {(pace.recipe, pace.device, pace.parallel, pace.compiled): pace for pace in (*read_paces(folder), *paces)}
    if kept:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / _PACES, [asdict(kept[key]) for key in sorted(kept)])


class Bundle:
    """What one call of the queue brings back, in one file that is whole at any moment: `<folder>/queue.json`.

    One file, because few come back from a lent machine. Started again on the same folder, it adds to what is there.

    Args:
        folder: of the file; made if need be.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / _BUNDLE
        folder.mkdir(parents=True, exist_ok=True)
        self.content: dict[str, list[Any]] = {"runs": [], "paces": [], "side_by_side": []}
        if self.file.exists():
            self.content = read_json(self.file)

    def add_run(self, record: Mapping[str, Any]) -> None:
        """Add a finished run, once."""
        if record not in self.content["runs"]:
            self._add("runs", record)

    def add_pace(self, pace: Pace) -> None:
        """Add a measured pace."""
        self._add("paces", asdict(pace))

    def add_choice(self, measured: Mapping[str, Any]) -> None:
        """Add what was measured to choose how many trainings share the device."""
        self._add("side_by_side", measured)

    def _add(self, kind: str, entry: Any) -> None:
        self.content[kind].append(entry)
        write_json(self.file, self.content)


def read_bundle(file: Path) -> tuple[list[Any], list[Pace]]:
    """Records, unchecked, and paces of a file that came back.

    Raises: RunError: if it is damaged. KeyError, TypeError: if it is no such file.
    """
    content = read_json(file)
    return content["runs"], [Pace(**pace) for pace in content["paces"]]
