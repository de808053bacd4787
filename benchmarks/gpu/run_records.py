"""Records of the queue: what is kept of a finished run, how it is checked, and where it lies in results/gpu/."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from selfkd.recipes.reader import MACHINE, Recipe
from selfkd.runs.run_folder import RunFolder, read_json, write_json
from selfkd.training.epoch_log import read_epoch_log

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results" / "gpu"
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
    """

    recipe: str
    device: str
    parallel: int
    seconds_per_epoch: float
    epochs: int


class Paces:
    """The measured paces of one device; the latest of a recipe counts."""

    def __init__(self, device: str, paces: Iterable[Pace] = ()) -> None:
        self.device = device
        self._seconds: dict[tuple[str, int], float] = {}
        for pace in paces:
            self.add(pace)

    def add(self, pace: Pace) -> None:
        """Note a measurement; one of another device is left out."""
        if pace.device == self.device:
            self._seconds[pace.recipe, pace.parallel] = pace.seconds_per_epoch

    def seconds_per_epoch(self, recipe: str, parallel: int) -> float | None:
        """Measured, or None; from fewer side by side it is scaled as if the device were full with one."""
        known = {p: seconds for (name, p), seconds in self._seconds.items() if name == recipe}
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
    for head, metrics in scores["last"]["scores"]["test"].items():
        logged, scored = epochs[-1].get(f"test/top1/{head}", math.nan), metrics["top1"]["value"]
        if not abs(logged - scored) <= _EVALUATION_TOLERANCE:
            faults.append(f"{head} scored {scored} after the last epoch, of which the log says {logged}")
    return faults


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
    kept = {(pace.recipe, pace.device, pace.parallel): pace for pace in (*read_paces(folder), *paces)}
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
