"""Every example runs as it stands."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))
ARGUMENTS = {"own_loop.py": ["8"]}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_it_runs(example, tmp_path):
    done = subprocess.run(
        [sys.executable, example, *ARGUMENTS.get(example.name, [])],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if example.name == "own_loop.py":
        accuracy = float(re.search(r"test accuracy ([\d.]+) %", done.stdout)[1])
        assert accuracy > 60, done.stdout
