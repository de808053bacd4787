"""Nothing that lies in the working folder runs, as a folder may be a downloaded one; but what the user names there."""

import importlib.util
import os
import subprocess
import sys

import pytest

from image_sets import digit
from selfkd.cli import main
from selfkd.recipes.reader import resolve

# What torch, Lightning, timm and others look for, and do without where it is not installed.
OPTIONAL = (
    *(
        "psutil",
        "pynvml",
        "pandas",
        "matplotlib",
        "onnx",
        "onnxruntime",
        "wandb",
        "rich",
        "regex",
        "numexpr",
        "bottleneck",
    ),
    *(
        "apex",
        "torch_xla",
        "tensorflow",
        "tensorrt",
        "mpi4py",
        "redis",
        "omegaconf",
        "pydantic",
        "defusedxml",
        "olefile",
    ),
    *("opt_einsum", "gmpy2", "zstandard", "lz4", "colorama", "IPython", "ipywidgets", "cupy", "triton", "accimage"),
)
RECIPE = "demo/digits/resnet18/plain"
TINY = ("backbone.width=4", "trainer.epochs=1", "data.train_per_class=2", "name=tiny", "--no-progress")


def plant(folder, names):
    """Modules that leave a file when they are imported."""
    for name in names:
        (folder / f"{name}.py").write_text(f"open({str(folder / 'ran.txt')!r}, 'a').write('{name} ')\n")


def what_ran(folder):
    return (folder / "ran.txt").read_text() if (folder / "ran.txt").exists() else ""


@pytest.fixture
def downloaded(tmp_path):
    folder = tmp_path / "downloaded"
    folder.mkdir()
    plant(folder, [name for name in OPTIONAL if importlib.util.find_spec(name) is None])
    assert (folder / "psutil.py").exists() or len(list(folder.iterdir())) > 5
    digit(3).save(folder / "image.png")
    return folder


def script(tmp_path, *lines):
    """What an installed command is: a script in another folder that calls `main`."""
    file = tmp_path / "bin" / "selfkd-as-installed"
    file.parent.mkdir()
    calls = "".join(f"    assert main({list(map(str, line))!r}) == 0\n" for line in lines)
    file.write_text(f"from selfkd.cli import main\nif __name__ == '__main__':\n{calls}")
    return file


def run_in(folder, *command):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *map(str, command)]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
    )


@pytest.mark.slow
def test_no_verb_runs_what_lies_in_the_working_folder(downloaded, tmp_path):
    run = "runs/tiny/seed-0"
    verbs = (
        ("train", RECIPE, *TINY),
        ("evaluate", run),
        ("predict", run, "image.png"),
        ("export", run),
        ("check", "digits", "backbone=resnet18_cifar"),
        ("list", "recipes"),
    )
    done = run_in(downloaded, script(tmp_path, *verbs))
    assert done.returncode == 0, done.stderr
    assert what_ran(downloaded) == ""


@pytest.mark.slow
def test_nor_do_the_processes_that_train_together(downloaded, tmp_path):
    plant(downloaded, ["multiprocessing", "tempfile", "pickle"])  # Python's own, if it looks here first
    done = run_in(
        downloaded, script(tmp_path, ("train", RECIPE, *TINY, "trainer.devices=2", "trainer.accelerator=cpu"))
    )
    assert done.returncode == 0, done.stderr
    assert what_ran(downloaded) == ""


def test_python_m_does_not_look_there_either(tmp_path):
    plant(tmp_path, ["argparse", "json", "tempfile", "logging", "difflib"])
    done = run_in(tmp_path, "-m", "selfkd", "list", "methods")
    assert done.returncode == 0, done.stderr
    assert "dtskd" in done.stdout
    assert what_ran(tmp_path) == ""


def test_a_name_of_ones_own_is_looked_for_there_and_from_then_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    plant(tmp_path, ["not_asked_for"])
    (tmp_path / "own_objective.py").write_text(
        "import own_neighbour\nfrom selfkd.methods.plain import Plain\nclass Mine(Plain):\n    'My own.'\n"
    )
    plant(tmp_path, ["own_neighbour"])
    before = list(sys.path)
    assert main(["train", RECIPE, "--help"]) == 0
    (tmp_path / "own.yaml").write_text(f"include: {RECIPE}\nmethod: own_objective:Mine\n")
    assert main(["train", "own.yaml", "--help"]) == 2, "a file that is not trusted does not count"
    assert sys.path == before
    status = main(["train", RECIPE, "method=own_objective:Mine", "--help"])
    assert status == 0
    assert "method=own_objective:Mine" in capsys.readouterr().out
    assert sys.path == [*before, str(tmp_path)]
    assert what_ran(tmp_path) == "own_neighbour "


def test_a_part_of_ones_own_imports_its_neighbour_when_it_is_built(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_late.py").write_text(
        "def build(num_classes):\n    from own_blocks import net\n    return net(num_classes)\n"
    )
    (tmp_path / "own_blocks.py").write_text("def net(num_classes):\n    return num_classes\n")
    (tmp_path / "own.yaml").write_text(f"include: {RECIPE}\nbackbone: own_late:build\n")
    assert resolve("own.yaml", trust_imports=True).build("backbone", 10) == 10
