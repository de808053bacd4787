"""Every example runs as it stands."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))
ARGUMENTS = {"own_loop.py": ["8"], "cut_boxes.py": ["annotated", "cells"]}
PHOTOGRAPHS = 8


@pytest.fixture
def annotated(bccd_root, tmp_path):
    """Some photographs of blood with the boxes of their cells, in Pascal VOC's layout."""
    (tmp_path / "annotated" / "Annotations").mkdir(parents=True)
    (tmp_path / "annotated" / "JPEGImages").symlink_to(bccd_root / "JPEGImages")
    for file in sorted((bccd_root / "Annotations").glob("*.xml"))[:PHOTOGRAPHS]:
        (tmp_path / "annotated" / "Annotations" / file.name).symlink_to(file)
    return tmp_path / "annotated"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_it_runs(example, tmp_path, request):
    if example.name == "cut_boxes.py":
        request.getfixturevalue("annotated")
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
    if example.name == "cut_boxes.py":
        classes = {folder.name for folder in (tmp_path / "cells").iterdir()}
        assert classes == {"Platelets", "RBC", "WBC"}
        with Image.open(tmp_path / "cells" / "WBC" / "BloodImage_00000_0.png") as cell:
            assert cell.size == (491 - 260, 376 - 177), "the box in the annotation"


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
