"""Every example runs as it stands."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

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


@pytest.mark.slow
def test_a_loop_that_was_killed_continues_and_ends_with_the_same_weights(tmp_path):
    command = [sys.executable, EXAMPLES[0].with_name("own_loop.py"), "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    said = {}
    for name in ("unbroken", "killed"):
        (tmp_path / name).mkdir()
        options = {"cwd": tmp_path / name, "env": environment, "text": True}
        if name == "killed":
            with subprocess.Popen(command, stdout=subprocess.PIPE, **options) as loop:
                assert any(line.startswith("epoch 1 of 2") for line in loop.stdout)
                loop.kill()
        said[name] = subprocess.run(command, capture_output=True, check=True, **options).stdout
    assert "epoch 1 of 2" in said["unbroken"]
    assert "epoch 1 of 2" not in said["killed"]
    assert said["unbroken"].splitlines()[-1] == said["killed"].splitlines()[-1]
    states = [torch.load(tmp_path / name / "own_loop.pt", weights_only=True) for name in said]
    weights = [list(state["method"]["weights"].values()) for state in states]
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(*weights, strict=True))
