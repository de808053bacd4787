"""Keep what the queue brought back: records into results/gpu/, one file for each run, and the measured paces.

    python benchmarks/gpu/collect.py FILE ...        # queue.json of each call

A record is refused if it is damaged, is not what the recipe of its name says now, was trained on other data than the
records already there, or is there already in another form. Exit status 1 if anything was refused.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from run_records import RESULTS, ROOT, add_paces, faults_of, read_bundle, read_records, record_file, source_digest

from selfkd.errors import SelfKDError
from selfkd.recipes.reader import resolve
from selfkd.runs.records import read_json, write_json


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, help="queue.json of each call")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where records are kept (results/gpu)")
    parsed = parser.parse_args(arguments)
    refused = 0
    for file in parsed.files:
        try:
            records, paces = read_bundle(file)
        except (SelfKDError, KeyError, TypeError) as error:
            print(f"refused: {file}: damaged: {error}")
            refused += 1
            continue
        add_paces(parsed.results, (pace for pace in paces if not pace.recipe.startswith("tiny/")))
        for record in records:
            reason = keep(record, parsed.results)
            refused += reason is not None
            if reason is not None:
                print(f"refused: a record of {file}: {reason}")
    return 1 if refused else 0


def keep(record: Any, results: Path) -> str | None:
    """Write a record where it belongs.

    Returns: why it was refused; None if it is kept, or was already there as it is.
    """
    try:
        name, seed = record["scores"]["recipe"], record["scores"]["seed"]
        faults = faults_of(record, resolve(name, {"seed": seed}))
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        return f"damaged: {type(error).__name__}: {error}"
    except SelfKDError as error:
        return str(error)
    if faults:
        return f"{name} seed {seed}: {'; '.join(faults)}"
    others = {other["data"]["fingerprint"] for other in read_records(results)} - {record["data"]["fingerprint"]}
    if others:
        return f"{name} seed {seed}: trained on other data than the records in {results}"
    complete = with_commit(record)
    file = record_file(results, name, seed)
    if file.exists():
        return None if read_json(file) in (record, complete) else f"{name} seed {seed}: {file} holds another run of it"
    write_json(file, complete)
    print(f"kept: {file}")
    return None


def with_commit(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with the commit of its source, where the machine that trained had no repository to ask."""
    environment = dict(record["environment"])
    if environment["commit"] is None and record["source"] == source_digest():
        environment["commit"] = _commit_of_source()
    return {**record, "environment": environment}


def _commit_of_source() -> str | None:
    """The commit of src/ as it is here; None if files differ from it, or there is no repository."""
    git = ["git", "-C", str(ROOT)]
    status, latest = ["status", "--porcelain", "--untracked-files=all"], ["log", "-1", "--format=%H"]
    try:
        changes, commit = (
            subprocess.run([*git, *command, "--", "src"], capture_output=True, text=True, check=True).stdout.strip()
            for command in (status, latest)
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return None if changes else commit or None


if __name__ == "__main__":
    sys.exit(main())
