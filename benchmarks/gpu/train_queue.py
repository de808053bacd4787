"""Train the next recipes of queue.yaml for some minutes, and bring back the evidence of each finished run.

    python benchmarks/gpu/train_queue.py --minutes 9 --out OUT data.root=DATA_ROOT [key=value ...]

What is finished in results/runs/ is left out. The recipe, scores, epochs and environment of each finished run go into
OUT/finished_runs.zip, which is for evidence.py. The next call with the same --runs continues what is unfinished.
README.md has the calls for a lent GPU.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
import yaml
from evidence import ARCHIVE, IMAGES, RESULTS, pack
from pyarrow import parquet

from selfkd.data.reading.parquet_files import parquet_splits
from selfkd.errors import CheckpointError, DataError, SelfKDError, UserError
from selfkd.recipes.key_checks import split_overrides
from selfkd.recipes.recipe import Recipe
from selfkd.recipes.several import each_once, resolve_several
from selfkd.runs.epoch_counts import saved_epochs
from selfkd.runs.records import read_record
from selfkd.runs.run_folder import RunFolder
from selfkd.runs.several import TrainingOutcome, train_several
from selfkd.terminal import configure_logging
from selfkd.training.epoch_log import read_epoch_log

QUEUE = Path(__file__).resolve().parent / "queue.yaml"
CHECKPOINTS = {"trainer.checkpoint_every": "10"}  # writing one takes a good part of an epoch on a fast GPU
STOP_SECONDS = 30
"""Kept at the end of the time: trainings stop, and the archive is written."""
START_SECONDS = 30
"""The least that a training takes besides its epochs."""
KNOWN_AFTER = 3
"""Epochs after which the pace of a recipe is known; the first two may be slow because they compile."""


def main(arguments: Sequence[str] | None = None) -> int:
    parsed = _parser().parse_args(arguments)
    configure_logging(logging.INFO)
    try:
        queue = read_queue(parsed.queue, CHECKPOINTS | split_overrides(parsed.overrides))
        waiting = not_finished(queue, parsed.results, parsed.runs)
        print(f"{len(queue) - len(waiting)} of {len(queue)} are finished", flush=True)
        failed = [] if parsed.list else train(waiting, parsed)
    except SelfKDError as error:
        print(f"train_queue: {error}", file=sys.stderr)
        return error.exit_status
    for recipe in not_finished(waiting, parsed.runs):
        seconds = seconds_needed(recipe, parsed)
        print(f"waiting: {_name(recipe)}" + ("" if seconds is None else f", which needs {seconds:.0f} s or more"))
    for outcome in failed:
        print(f"failed: {_name(outcome.recipe)}: {outcome.error}")
    return 1 if failed else 0


def read_queue(file: Path, overrides: Mapping[str, str]) -> list[Recipe]:
    """The recipes to train, in their order, each once.

    Args:
        file: a list of stages, as in queue.yaml.
        overrides: flat keys and their values, for all recipes.
    """
    return each_once(
        recipe
        for stage in yaml.safe_load(file.read_text(encoding="utf-8"))
        for seed in stage["seeds"]
        for recipe in resolve_several(stage["recipes"], overrides, [seed])
    )


def not_finished(recipes: Iterable[Recipe], *places: Path) -> list[Recipe]:
    """The recipes without a finished run in any of the folders."""
    return [recipe for recipe in recipes if not any(RunFolder.of(recipe, place).is_finished for place in places)]


def train(waiting: Sequence[Recipe], arguments: argparse.Namespace) -> list[TrainingOutcome]:
    """Train in the order of the queue, until the time is up or nothing is left that can finish.

    A recipe is first trained for a short time if its pace is not known.

    Returns: the trainings that failed.
    Raises: DataError: if the data is not whole.
    """
    ends = time.monotonic() + 60 * arguments.minutes - STOP_SECONDS
    for recipe in waiting:
        check_whole(recipe)
    failed: list[TrainingOutcome] = []
    tried: set[str] = set()
    while True:
        pack(arguments.runs, arguments.out / ARCHIVE, arguments.commit)
        left, refused = ends - time.monotonic(), [outcome.recipe for outcome in failed]
        needed = [
            (recipe, seconds_needed(recipe, arguments))
            for recipe in not_finished(waiting, arguments.runs)
            if recipe not in refused
        ]
        batch = [each for each in needed if (each[1] or START_SECONDS) <= left + 60 * arguments.later][: arguments.jobs]
        if not batch or left < START_SECONDS:
            return failed
        unknown = {recipe.name for recipe, seconds in batch if seconds is None} - tried
        tried |= unknown
        stops = time.monotonic() + (min(left, arguments.trial) if unknown else left)
        recipes = [recipe for recipe, _ in batch]
        try:
            outcomes = train_several(
                recipes,
                arguments.runs,
                arguments.jobs,
                show_progress=sys.stderr.isatty(),
                seconds=stops - time.monotonic(),
            )
        except UserError as error:  # all of them are wrong
            outcomes = [TrainingOutcome(recipe, RunFolder.of(recipe, arguments.runs), str(error)) for recipe in recipes]
        if time.monotonic() < stops:  # what did not finish before the time was up has failed
            failed += [outcome for outcome in outcomes if outcome.error is not None]


def check_whole(recipe: Recipe) -> None:
    """Refuse to train on a part of the data, such as the first half of what travels to a lent machine.

    Raises: DataError: if the Parquet files at data.root hold another number of images.
    """
    root = recipe.options["data"].get("root")
    files = [file for split in parquet_splits(Path(root)).values() for file in split] if root else []
    images, whole = sum(parquet.read_metadata(file).num_rows for file in files), IMAGES.get(recipe.parts["data"])
    if files and images != whole:
        raise DataError(f"{root} holds {images} images; the whole data set has {whole}")


def seconds_needed(recipe: Recipe, arguments: argparse.Namespace) -> float | None:
    """The least time that a recipe still needs; None if its pace is not known.

    Its pace is that of the fastest epoch that the recipe logged: on this machine, or, in results/runs/, on the same
    device with the same mode of compilation.
    """
    here = [RunFolder(file.parent) for file in (arguments.runs / recipe.name).glob("seed-*/metrics.csv")]
    kept = [RunFolder(file.parent) for file in (arguments.results / recipe.name).glob("seed-*/metrics.csv")]
    runs = [*here, *(run for run in kept if _trained_alike(run, recipe))]
    pace = min((pace for run in runs if (pace := _pace(run)) is not None), default=arguments.seconds_per_epoch)
    left = recipe.options["trainer"]["epochs"] - saved_epochs(RunFolder.of(recipe, arguments.runs))
    return None if pace is None else START_SECONDS + left * pace


def _pace(run: RunFolder) -> float | None:
    """The seconds of the fastest epoch of a run; None if it logged too few, or its log is damaged."""
    try:
        log = read_epoch_log(run.metrics_file)
    except CheckpointError:
        return None
    seconds = [row["seconds/train"] + row.get("seconds/evaluate", 0.0) for row in log]
    return min(seconds) if len(seconds) >= KNOWN_AFTER else None


def _trained_alike(kept: RunFolder, recipe: Recipe) -> bool:
    """Whether a kept run was trained on the device of this machine, and compiled as the recipe is."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    compiled = kept.recipe().options["trainer"]["compile"]
    return (
        read_record(kept.environment_file).get("device") == device and compiled == recipe.options["trainer"]["compile"]
    )


def _name(recipe: Recipe) -> str:
    return f"{recipe.name} seed {recipe.seed}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="options of all recipes")
    parser.add_argument("--minutes", type=float, default=9.0, help="time of this call (%(default)s)")
    parser.add_argument("--later", type=float, default=0.0, help="minutes of later calls on this machine (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path(), help=f"folder that gets {ARCHIVE} (the current one)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (runs)")
    parser.add_argument("--jobs", type=int, default=1, help="runs that train at the same time (%(default)s)")
    parser.add_argument("--list", action="store_true", help="only name what is not finished")
    parser.add_argument("--commit", help="commit of the source, where this folder is no repository")
    parser.add_argument("--trial", type=float, default=90.0, help="seconds to learn a recipe's pace (%(default)s)")
    parser.add_argument("--seconds-per-epoch", type=float, help="the pace of recipes whose pace is not known yet")
    parser.add_argument("--queue", type=Path, default=QUEUE, help="the queue (queue.yaml beside this file)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the kept runs (results/runs)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
