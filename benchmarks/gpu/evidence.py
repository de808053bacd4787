"""Archives of finished runs: train_queue.py writes them, and this command unpacks them into results/runs/.

    python benchmarks/gpu/evidence.py FOLDER/finished_runs.zip ...
    python benchmarks/gpu/evidence.py runs                           # a folder of runs that were trained here

A run is refused if its recipe is not that of the package, if it did not have all images of the data set, if an epoch is
missing or not finite, or if another run of it is there. The exit status is 1 if a run was refused.
"""

from __future__ import annotations

import argparse
import filecmp
import math
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import yaml

from selfkd.atomic_files import written_whole
from selfkd.errors import RunError, SelfKDError
from selfkd.json_text import to_json
from selfkd.reports.published import is_unchanged
from selfkd.runs.records import read_record
from selfkd.runs.run_folder import RunFolder
from selfkd.training.epoch_log import read_epoch_log

RESULTS = Path(__file__).resolve().parents[2] / "results" / "runs"
ARCHIVE = "finished_runs.zip"
IMAGES = {"cifar100": 60_000, "digits": 1_797}
"""The number of images in each whole data set, all splits together."""
PLACES = ("data.root", "teacher.data.root", "teacher.path")
"""Options that only say where something lay on the machine; they are not kept."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", type=Path, metavar="ARCHIVE | RUNS", help="archives, or folders of runs")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the kept runs (results/runs)")
    parsed = parser.parse_args(arguments)
    refused = 0
    for source in parsed.sources:
        with tempfile.TemporaryDirectory() as folder:
            archive, unpacked = source, Path(folder) / "runs"
            if source.is_dir():
                archive = Path(folder) / ARCHIVE
                pack(source, archive, None)
            try:
                with zipfile.ZipFile(archive) as file:
                    file.extractall(unpacked)
            except (OSError, zipfile.BadZipFile) as error:
                parser.error(f"{archive} cannot be unpacked: {error}")
            for scores in sorted(unpacked.rglob("scores.json")):
                place = scores.parent.relative_to(unpacked)
                try:
                    check_evidence(RunFolder(scores.parent), place)
                    keep(scores.parent, parsed.results / place)
                except SelfKDError as error:
                    print(f"refused: {place}: {error}")
                    refused += 1
    return 1 if refused else 0


def pack(runs: Path, archive: Path, commit: str | None) -> None:
    """Write the evidence of all finished runs into an archive, which is whole at any moment.

    Args:
        runs: folder of the runs.
        archive: the zip file.
        commit: the commit of the source, for runs that found no repository; None if it is not known.
    """
    with written_whole(archive) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as file:
        for scores in sorted(runs.rglob("seed-*/scores.json")):
            try:
                texts = _evidence(RunFolder(scores.parent), commit)
            except (SelfKDError, OSError, UnicodeError, yaml.YAMLError) as error:
                print(f"not packed: {scores.parent}: {error}")
                continue
            for name, text in texts.items():
                file.writestr(str(scores.parent.relative_to(runs) / name), text)


def _evidence(run: RunFolder, commit: str | None) -> dict[str, str]:
    """The texts of the files that are kept of a finished run, by their names."""
    options = yaml.safe_load(run.recipe_file.read_text(encoding="utf-8"))
    environment = read_record(run.environment_file)
    environment["commit"] = environment.get("commit") or commit
    unchanged = {file.name: file.read_text(encoding="utf-8") for file in (run.metrics_file, run.scores_file)}
    return unchanged | {
        run.recipe_file.name: yaml.safe_dump(
            {key: options[key] for key in options if key not in PLACES}, sort_keys=False
        ),
        run.environment_file.name: to_json(environment) + "\n",
    }


def check_evidence(run: RunFolder, place: Path) -> None:
    """Check that the files of a run show what a recipe of the package gives on the whole data set.

    Args:
        run: the unpacked files.
        place: the folder of the run, relative to the folder of all runs.
    Raises: SelfKDError: if they do not.
    """
    recipe, scores, epochs = run.recipe(), run.scores(), read_epoch_log(run.metrics_file)
    wanted, whole = recipe.options["trainer"]["epochs"], IMAGES.get(recipe.parts["data"])
    images = sum(split["images"] for split in scores.get("splits", {}).values())
    if not is_unchanged(recipe):
        raise RunError(f"its recipe is not {recipe.name} as the package has it now")
    if not RunFolder.of(recipe, Path()).path == place == Path(scores["recipe"]) / f"seed-{scores.get('seed')}":
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
    elif filecmp.cmpfiles(unpacked, target, [file.name for file in unpacked.iterdir()], shallow=False)[1:] != ([], []):
        raise RunError(f"{target} holds another run of it")


if __name__ == "__main__":
    sys.exit(main())
