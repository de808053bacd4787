"""Check the runs that train_queue.py brought back, and unpack them into results/runs/.

    python benchmarks/gpu/keep_runs.py FOLDER/finished_runs.zip ...

A run is refused if its recipe is not that of the package, if it did not have all images of the data set, if an epoch is
missing or not finite, or if another run of it is there. The exit status is 1 if a run was refused.
"""

from __future__ import annotations

import argparse
import math
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from train_queue import IMAGES, RESULTS

from selfkd.errors import RunError, SelfKDError
from selfkd.reports.published import is_unchanged
from selfkd.runs.run_folder import RunFolder
from selfkd.training.epoch_log import read_epoch_log


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archives", nargs="+", type=Path, metavar="ARCHIVE", help="finished_runs.zip of a call")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the kept runs (results/runs)")
    parsed = parser.parse_args(arguments)
    refused = 0
    for archive in parsed.archives:
        with tempfile.TemporaryDirectory() as unpacked, zipfile.ZipFile(archive) as file:
            file.extractall(unpacked)
            for scores in sorted(Path(unpacked).rglob("scores.json")):
                place = scores.parent.relative_to(unpacked)
                try:
                    check_evidence(RunFolder(scores.parent), place)
                    keep(scores.parent, parsed.results / place)
                except SelfKDError as error:
                    print(f"refused: {place}: {error}")
                    refused += 1
    return 1 if refused else 0


def check_evidence(run: RunFolder, place: Path) -> None:
    """Check that the files of a run show what a recipe of the package gives on the whole data set.

    Args:
        run: the unpacked files.
        place: the folder of the run, relative to the folder of all runs.
    Raises: SelfKDError: if they do not.
    """
    recipe, scores, epochs = run.recipe(), run.scores(), read_epoch_log(run.metrics_file)
    wanted, whole = recipe.options["trainer"]["epochs"], IMAGES.get(recipe.parts["data"])
    images = {split: record["images"] for split, record in scores["splits"].items()}
    if not is_unchanged(recipe):
        raise RunError(f"its recipe is not {recipe.name} as the package has it now")
    if not RunFolder.of(recipe, Path()).path == place == Path(scores["recipe"]) / f"seed-{scores['seed']}":
        raise RunError(f"its recipe is of {recipe.name} seed {recipe.seed}, its scores of {scores['recipe']}")
    if [row["epoch"] for row in epochs] != list(range(1, wanted + 1)):
        raise RunError(f"it logged {len(epochs)} epochs; the recipe has {wanted}, and each must be there once")
    if not all(math.isfinite(value) for row in epochs for value in row.values()):
        raise RunError("it logged a number that is not finite")
    if images != whole:
        raise RunError(f"it had {images} images; the whole data set has {whole}")


def keep(unpacked: Path, target: Path) -> None:
    """Copy the files of a run to their place.

    Raises: RunError: if another run is there.
    """
    if not target.exists():
        shutil.copytree(unpacked, target)
        print(f"kept: {target}")
    elif any((target / file.name).read_bytes() != file.read_bytes() for file in unpacked.iterdir()):
        raise RunError(f"{target} holds another run of it")


if __name__ == "__main__":
    sys.exit(main())
