"""The package as users install it: built, installed into an environment of its own, and run far from the source."""

import json
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "selfkd"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


def files_below(folder):
    return {
        str(path.relative_to(folder.parent))
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of the sdist and of the wheel, which is built from the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    return built / f"selfkd-{VERSION}-py3-none-any.whl"


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """The folder of a virtual environment that holds the wheel; it finds the dependencies where this process does."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    install = [sys.executable, "-m", "pip", "--python", folder, "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True)
    # Python reads the .pth files of its own environment alone: a folder that one of them adds is searched, but the .pth
    # files in that folder, such as that of an editable selfkd, are not followed.
    dependencies = [entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    (site_packages(folder) / "dependencies.pth").write_text("\n".join(dependencies), encoding="utf-8")
    return folder


def site_packages(environment):
    return next(environment.glob("lib/python*/site-packages"))


def run(environment, command, *arguments, cwd):
    """A command of the environment, in a folder outside the repository and without the variables that name the source.

    Returns: what it wrote to standard output.
    """
    done = subprocess.run(
        [environment / "bin" / command, *arguments],
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin", "HOME": str(cwd), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_wheel_holds_the_whole_package_and_its_licence(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    information = {name for name in names if name.startswith(f"selfkd-{VERSION}.dist-info/")}
    assert names - information == files_below(PACKAGE)
    assert {"selfkd/py.typed", "selfkd/recipes/dtskd/cifar100.yaml"} <= names
    assert f"selfkd-{VERSION}.dist-info/licenses/LICENSE" in information


@pytest.mark.slow
def test_the_sdist_holds_what_a_reader_of_the_source_needs(built):
    with tarfile.open(built / f"selfkd-{VERSION}.tar.gz") as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {f"src/{name}" for name in files_below(PACKAGE)} <= names
    assert {"pyproject.toml", "README.md", "CHANGELOG.md", "CITATION.cff", "LICENSE", "docs/upgrading.md"} <= names


@pytest.mark.slow
def test_the_installed_package_runs_without_its_source(environment, tmp_path):
    where = "import selfkd; print(selfkd.__file__, selfkd.__version__)"
    file, version = run(environment, "python", "-c", where, cwd=tmp_path).split()
    assert Path(file) == site_packages(environment) / "selfkd" / "__init__.py"
    assert version == VERSION
    assert run(environment, "selfkd", "--version", cwd=tmp_path) == f"{VERSION}\n"

    # The demo: three seeds each of plain training and of DTSKD.
    run(environment, "selfkd", "train", "trainer.epochs=2", "--no-progress", cwd=tmp_path)
    runs = sorted(path.parent for path in tmp_path.rglob("scores.json"))
    assert len(runs) == 6
    for folder in runs:
        recorded = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
        assert recorded["packages"]["selfkd"] == VERSION
        assert recorded["commit"] is None
    run(environment, "selfkd", "evaluate", runs[0], cwd=tmp_path)
    run(environment, "selfkd", "export", runs[0], "--format", "safetensors", cwd=tmp_path)


def test_the_citation_names_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == VERSION
    for work in (citation, *citation["references"]):
        assert {"title", "authors"} <= set(work)
    assert all("type" in reference for reference in citation["references"])
