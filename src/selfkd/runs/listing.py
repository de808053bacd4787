"""List the runs below a folder: what was trained, how far each is, and what is wrong with it. torch is not imported."""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from selfkd.errors import RunError, SelfKDError
from selfkd.given_paths import RECIPE_FILE, check_path
from selfkd.recipes.files import read_recipe
from selfkd.runs.epoch_counts import logged_epochs, saved_epochs
from selfkd.runs.records import top1_of
from selfkd.runs.run_folder import RunFolder

__all__ = ["ListedRun", "list_runs"]

State = Literal["finished", "unfinished", "training", "damaged"]

_SEED_FOLDER = re.compile(r"seed-\d+")
_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True)
class ListedRun:
    """One run.

    Args:
        path: its folder.
        state: "finished"; "unfinished", and no process trains it; "training" now; or "damaged".
        recipe: name of the recipe; None if it cannot be read.
        seed: the seed; None if it cannot be read.
        epochs_done: trained epochs. Of an unfinished run, those in the newest checkpoint.
        epochs: length of the run; None if it cannot be read.
        top1_last: top-1 accuracy in percent of the head main on the test images after the last epoch; None if the run
            has none yet, or another task.
        top1_best: the same at the best epoch.
        problem: what is damaged; empty if nothing is.
    """

    path: Path
    state: State
    recipe: str | None = None
    seed: int | None = None
    epochs_done: int = 0
    epochs: int | None = None
    top1_last: float | None = None
    top1_best: float | None = None
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        """The record as plain values."""
        return {**asdict(self), "path": str(self.path)}


def list_runs(runs: str | os.PathLike[str] = "runs") -> list[ListedRun]:
    """List all runs in a folder and in the folders below it.

    Links are followed, and each run is listed once. A damaged run and a folder that cannot be read are listed with
    their problem.

    Args:
        runs: the folder of the runs, or the folder of one run.
    Returns: the runs in the order of their paths; numbers in the paths are compared as numbers.
    Raises: RunError: if there is no such folder.
    """
    root = Path(runs)
    check_path(root)
    if not root.is_dir():
        raise RunError(f"{root} is not a folder; name the folder that holds the runs (default: runs)")
    return sorted(_found(root), key=lambda run: _natural(run.path))


def _found(root: Path) -> Iterator[ListedRun]:
    """The runs in a folder and in those below it."""
    waiting = [root]
    seen: set[tuple[int, int]] = set()
    while waiting:
        folder = waiting.pop()
        try:
            state = folder.stat()
            if (state.st_dev, state.st_ino) in seen:
                continue
            seen.add((state.st_dev, state.st_ino))
            with os.scandir(folder) as entries:
                inside = {entry.name: _is_folder(entry) for entry in entries}
        except FileNotFoundError:  # it has just been deleted
            continue
        except OSError as error:
            yield ListedRun(folder, "damaged", problem=f"the folder cannot be read: {error.strerror}")
            continue
        run = RunFolder(folder)
        if _is_run(run, inside):
            yield _listed(run)
        else:
            waiting += [folder / name for name, is_folder in inside.items() if is_folder]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False


def _is_run(folder: RunFolder, inside: Container[str]) -> bool:
    """Whether a folder with these entries is a run, or was one before it lost its recipe."""
    has_name = RECIPE_FILE in inside or _SEED_FOLDER.fullmatch(folder.path.name) is not None
    return has_name and any(file.name in inside for file in folder.evidence)


def _listed(folder: RunFolder) -> ListedRun:
    run = ListedRun(folder.path, "damaged")
    try:
        if not folder.recipe_file.is_file():
            raise RunError(f"it holds no {RECIPE_FILE}")
        flat = read_recipe(str(folder.recipe_file))
        name, seed, epochs = flat.get("name"), flat.get("seed"), flat.get("trainer.epochs")
        if not (isinstance(name, str) and isinstance(seed, int) and isinstance(epochs, int)):
            raise RunError(f"{folder.recipe_file} is not the recipe of a run: it lacks name, seed or trainer.epochs")
        run = replace(run, recipe=name, seed=seed, epochs=epochs)
        if folder.is_finished:
            scores = folder.scores()
            last, best = top1_of(scores["last"]), top1_of(scores["best"])
            return replace(run, state="finished", epochs_done=epochs, top1_last=last, top1_best=best)
        if folder.is_locked:
            return replace(run, state="training", epochs_done=logged_epochs(folder).done)
        return replace(run, state="unfinished", epochs_done=saved_epochs(folder))
    except SelfKDError as error:
        return replace(run, problem=str(error))
    except OSError as error:
        return replace(run, problem=f"it cannot be read: {error.strerror}")


def _natural(path: Path) -> list[tuple[str, int]]:
    """A key that sorts seed-2 before seed-10."""
    pieces = _DIGITS.split(str(path))
    return [(text, int(number or 0)) for text, number in zip(pieces[::2], [*pieces[1::2], ""], strict=True)]
