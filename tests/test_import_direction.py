"""Imports between our packages point one way (design, section 3)."""

import ast
import sys
from pathlib import Path

import pytest

import selfkd

ROOT = Path(selfkd.__file__).parent

# Lowest first; a package may import those on earlier lines, and its own modules.
LEVELS = [
    {"errors"},
    {"contract"},
    {
        "argument_names",
        "atomic_files",
        "catalogue",
        "cores",
        "error_log",
        "eval_mode",
        "given_paths",
        "json_text",
        "main_memory",
        "option_checks",
        "process_environment",
        "process_group",
        "progress_bars",
        "signals",
        "terminal",
        "value_ranges",
    },
    {"losses"},
    {"memories"},
    {"supervision", "backbones", "data"},
    {"branches"},
    {"teachers"},
    {"methods"},
    {"evaluation", "export"},
    {"training"},
    {"recipes"},
    {"runs"},
    {"reports"},
    {"api"},
    {"cli"},
]
LEVEL_OF = {package: level for level, packages in enumerate(LEVELS) for package in packages}
# The rooms of data and the modules beside them, lowest first; the same rule.
ROOMS = [{"splits"}, {"listing"}, {"reading"}, {"sources", "augmentation"}, {"loading", "doctor"}]
ROOM_LEVEL_OF = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
# The front doors that stand outside: lazy public names, and `python -m selfkd`.
ENTRANCES = {"__init__.py", "__main__.py"}
# What else a package that knows only tensors may import.
TENSORS_ONLY = {
    "losses": {"torch", "collections", "__future__", "math"},
    "memories": {"torch", *sys.stdlib_module_names},  # keeps files
}

FILES = sorted(file for file in ROOT.rglob("*.py") if file.relative_to(ROOT).as_posix() not in ENTRANCES)


def package_of(file):
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(file):
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "absolute imports only"
            names = [node.module or ""]
            if node.module == "selfkd":
                names = [f"selfkd.{alias.name}" for alias in node.names]
        yield from names


def test_training_knows_methods_by_their_contract_and_in_one_file():
    training = [file for file in FILES if package_of(file) == "training"]
    importing = {file.name: name for file in training for name in imported(file) if name.startswith("selfkd.methods")}
    assert importing == {"module.py": "selfkd.methods.base"}


@pytest.mark.parametrize(
    "file",
    sorted(file for file in (ROOT / "data").rglob("*.py") if file.parent != ROOT / "data" or file.stem != "__init__"),
    ids=lambda file: file.relative_to(ROOT / "data").as_posix(),
)
def test_imports_between_the_rooms_of_data_point_one_way(file):
    room = file.relative_to(ROOT / "data").parts[0].removesuffix(".py")
    for name in imported(file):
        if name.startswith("selfkd.data"):
            assert name != "selfkd.data", "only packages above data know the table of names"
            other = name.split(".")[2]
            assert other == room or ROOM_LEVEL_OF[other] < ROOM_LEVEL_OF[room], f"{room} must not import {other}"


def test_the_command_has_no_other_way_than_the_api():
    allowed = {"api", "cli", "errors", *LEVELS[2]}
    for file in (ROOT / "cli").glob("*.py"):
        ours = {name.split(".")[1] for name in imported(file) if name.startswith("selfkd.")}
        assert ours <= allowed, f"{file.name} must not import {', '.join(ours - allowed)}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_imports_point_one_way(file):
    package = package_of(file)
    assert package in LEVEL_OF, "a new package needs a level"
    for name in imported(file):
        if name.startswith("selfkd."):
            other = name.split(".")[1]
            assert other == package or LEVEL_OF[other] < LEVEL_OF[package], f"{package} must not import {other}"
        elif package in TENSORS_ONLY:
            assert name.split(".")[0] in TENSORS_ONLY[package], f"{package} knows only tensors"
        elif package not in {"training", "runs", "reports", "cli"}:
            assert name.split(".")[0] not in {"pytorch_lightning", "lightning_fabric"}, f"{package} imports Lightning"
